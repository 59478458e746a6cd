"""What tells whether figures of before are still those of the model and of the strategy."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.workload import inputs_of, load_on_shapes
from freezekit.freezing.planning import decide, view
from freezekit.model.own_folder import own_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from torch import nn

    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload

FAILURES = (Exception, SystemExit)
"""What the code of a model or of a plugin may raise."""


def model_digest(workload: Workload) -> str:
    """Return a digest of the code and of the structure of a workload's model.

    The code is that of the user's own files which were imported for it, those of the loss too.
    The structure is the classes of its modules, and its parameters and buffers without values.

    Args:
        workload: Its model was built and run in this process before: then all code is imported.

    Example:
        >>> from freezekit.results.records import Workload
        >>> model_digest(Workload("timm:test_vit")) == model_digest(Workload("timm:test_resnet"))
        False
    """
    digest = hashlib.sha256()
    for name, path in own_files():
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    try:
        for line in _structure(load_on_shapes(workload)):
            digest.update(f"{line}\n".encode())
    except FAILURES:  # then it is known by its code alone
        pass
    return digest.hexdigest()[:12]


def _structure(model: nn.Module) -> Iterable[str]:
    for name, module in model.named_modules():
        yield f"{name} {type(module).__module__}.{type(module).__qualname__}"
    for name, parameter in model.named_parameters():
        yield f"{name} {tuple(parameter.shape)} {parameter.dtype} {parameter.requires_grad}"
    for name, buffer in model.named_buffers():
        yield f"{name} {tuple(buffer.shape)} {buffer.dtype}"


def plan_digest(plan: FreezePlan, trained_before: Collection[str] = ()) -> str:
    """Return a digest of what a plan does; its notes and warnings do not count.

    Args:
        plan: The plan.
        trained_before: As in `PhasePlan`.

    Example:
        >>> from freezekit import FreezePlan
        >>> plan_digest(FreezePlan(["a"])) == plan_digest(FreezePlan(["a"], notes=["why"]))
        True
    """
    facts: dict[str, Any] = {  # Any: JSON
        "frozen": sorted(plan.frozen),
        "eval_modules": None if plan.eval_modules is None else sorted(plan.eval_modules),
        "lr_scales": dict(plan.lr_scales),
    }
    if trained_before:
        facts["trained_before"] = sorted(trained_before)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def plan_digests(
    workload: Workload, specs: Iterable[str], registry: Registry
) -> dict[str, str | None]:
    """Return the digest of the plan of each spec, None where there is no plan.

    The model is observed once for all of them.

    Example:
        >>> from freezekit.plugins.registering import default_registry
        >>> from freezekit.results.records import Workload
        >>> work = Workload("timm:test_vit", batch_size=2, image_size=32)
        >>> found = plan_digests(work, ["full", "batch-norm"], default_registry())
        >>> {spec: digest is None for spec, digest in found.items()}
        {'full': False, 'batch-norm': True}
    """
    model = load_on_shapes(workload)
    inputs = inputs_of(workload, model)
    on_own_size, on_inputs = view(model, None, registry), view(model, inputs, registry)

    def digest(spec: str) -> str | None:
        def ask(example: Any) -> FreezePlan:  # Any: whatever the model takes
            return decide(on_own_size if example is None else on_inputs, spec, registry)

        try:
            return plan_digest(on_own_size_or(inputs, ask))
        except FAILURES:  # measuring tells why
            return None

    return {spec: digest(spec) for spec in specs}
