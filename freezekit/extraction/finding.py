"""Find the boundary at which features are taken: of a strategy, of a stage or of the model."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.cache.calls import Call
from freezekit.cache.candidates import SAMPLES, four_batches, output_of
from freezekit.cache.finding import find_prefix
from freezekit.cache.fingerprint import frozen_tensors, weights_digest
from freezekit.cache.prefix import Prefix
from freezekit.cache.untouched import in_training
from freezekit.errors import (
    CacheError,
    FreezeError,
    FreezekitWarning,
    ModelError,
    SpecError,
    StagingError,
    suggest,
)
from freezekit.extraction.boundary import Boundary, as_weights, layout_of
from freezekit.extraction.cut import cut_inside
from freezekit.freezing.eval_hold import RECORD
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import view
from freezekit.handle.freeze import freeze_
from freezekit.model.nested import tensors
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.plugins.registering import default_registry

if TYPE_CHECKING:
    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.extraction.boundary import Pool
    from freezekit.plugins.registry import Registry
    from freezekit.spec.strategy import Strategy

DEFAULT_SPEC = "head-only"


def find_boundary(
    model: nn.Module,
    spec: str | Strategy | FreezePlan | None,
    shape: tuple[int, int, int],
    *,
    stage: str | None = None,
    pool: Pool = "none",
    registry: Registry | None = None,
) -> Boundary:
    """Return the boundary at which features are taken.

    That of a strategy is the tensors that what it trains needs of what it freezes. The model is
    left as it was, but for gradients of parameters that the strategy freezes.

    Args:
        model: A model that is not frozen by freezekit. It is observed in eval mode.
        spec: A strategy, or a plan. None: `head-only`, or the output of a model without a
            classifier.
        shape: (channels, height, width) of the images.
        stage: In place of a strategy, the stage whose output is taken. The output of the last stage
            is that of the model.
        pool: "mean" averages each tensor over its positions: the tokens, or height and width.
        registry: The strategies that the text can name. The default is all installed plugins.

    Raises:
        CacheError: Nothing comes before all that is trained, the tensors cannot be divided into
            samples, or positions cannot be told from channels.
        ModelError: The model does not take such images.
        FreezeError: The model is frozen by freezekit.
        SpecError: The model has no such stage, or as in `freezekit.freeze_`.
        StagingError, PlanError, PluginError: As in `freezekit.freeze_`.

    Example:
        >>> from freezekit.testing import MODELS
        >>> model = MODELS["residual"]()
        >>> print(find_boundary(model, "head-only", (3, 32, 32)))
        layer3 (16, 4, 4): 256 numbers a sample
        >>> print(find_boundary(model, "head-only", (3, 32, 32), pool="mean"))
        layer3 (16,), averaged over positions: 16 numbers a sample
        >>> print(find_boundary(model, None, (3, 32, 32), stage="layer2"))
        layer2 (12, 8, 8): 768 numbers a sample
    """
    if RECORD in vars(model):
        raise FreezeError("the model is frozen: call undo() of its handle, then find the boundary")
    registry = registry or default_registry()
    backbone = view(model, None, registry)
    before = None if stage is None else _plan_up_to(backbone, stage)
    # Noise tells samples apart, whatever the user's first images are.
    noise = torch.randn(SAMPLES[0], *shape, generator=torch.Generator().manual_seed(0))
    images = as_weights(model, noise)
    with in_training(model):  # gives modes, buffers and random states back
        model.eval()
        _check_taken(model, images)
        if (stage and before is None) or (not stage and spec is None and _is_headless(backbone)):
            return _of_output(model, images, pool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)  # of a training, and nothing is trained
        frozen = freeze_(model, before or spec or DEFAULT_SPEC, registry=registry)
    try:
        with in_training(model):
            model.eval()
            prefix = find_prefix(model, model, images, images[: SAMPLES[1]])
            inside = cut_inside(model, prefix, _frozen_modules(model, frozen.plan), images)
            if inside and (stage or inside.numbers < prefix.numbers):
                prefix = inside
        weights = weights_digest(frozen_tensors(model, frozen.plan))
    finally:
        frozen.undo()
    return Boundary(prefix, layout_of(prefix, pool), pool, weights)


def _plan_up_to(backbone: Backbone, stage: str) -> FreezePlan | None:
    """Return the plan that freezes a model from its stem to a stage, None for the last stage.

    Raises:
        SpecError: The model has no such stage.
    """
    names = [each.name for each in backbone.stages]
    if stage not in names:
        raise SpecError(
            f"there is no stage {stage!r}{suggest(stage, names) or '.'} The stages are "
            f"{', '.join(names)}"
        )
    before = backbone.stages[: names.index(stage) + 1]
    if len(before) == len(names):
        return None
    frozen = {name for each in before for name in each.parameters}
    return FreezePlan(frozen, backbone.inside(frozen, before))


def _is_headless(backbone: Backbone) -> bool:
    """Tell whether a model has no classifier: it says so, or its last layer is a norm."""
    if getattr(backbone.model, "num_classes", None) == 0:  # as timm's models say it
        return True
    try:
        norms = {norm.name for norm in backbone.norms}
        return not backbone.head.parameters or backbone.last_layer in norms
    except StagingError:  # the strategy tells why there are no stages
        return False


def _of_output(model: nn.Module, images: Tensor, pool: Pool) -> Boundary:
    """Return the boundary behind the whole model, which is in eval mode."""
    with torch.no_grad():
        seen = [model(each) for each in four_batches(images, images[: SAMPLES[1]])]
        again = model(images)
    if not all(map(torch.equal, tensors(seen[0]), tensors(again))):
        raise CacheError("the output of the model is not the same for the same images: no features")
    call = Call("", 0)
    prefix = Prefix((call,), (call,), {call: output_of(seen, "the model")}, {})
    weights: dict[str, Any] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return Boundary(prefix, layout_of(prefix, pool), pool, weights_digest(weights))


def _frozen_modules(model: nn.Module, plan: FreezePlan) -> set[str]:
    """Return the modules that a plan in force holds in eval mode, or whose weights it freezes."""
    frozen = {
        name
        for name, module in model.named_modules()
        if (flags := [p.requires_grad for p in module.parameters()]) and not any(flags)
    }
    return frozen.union(plan.eval_modules or ())


def _check_taken(model: nn.Module, images: Tensor) -> None:
    try:
        with torch.no_grad():
            out = model(images)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{type(model).__name__} does not take images of {tuple(images.shape)}: "
            f"{type(error).__name__}: {error!s:.200}"
        ) from error
    if next(tensors(out), None) is None:
        raise ModelError(f"{type(model).__name__} returns no tensor for images")
