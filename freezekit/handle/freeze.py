"""`freeze_`: freeze a model in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.budget.least import check_budget
from freezekit.freezing.apply import apply, check_parts, check_trainable, lock_of, undo
from freezekit.freezing.eval_hold import RECORD
from freezekit.freezing.forward_writes import write_warnings
from freezekit.freezing.plan import with_warnings
from freezekit.freezing.planning import decide, view, warn
from freezekit.freezing.thawing import thaw_warnings
from freezekit.freezing.wrapped import check_model
from freezekit.handle.frozen import Frozen
from freezekit.plugins.registering import default_registry
from freezekit.results.lean_text import budget_bytes

if TYPE_CHECKING:
    from torch import nn

    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice
    from freezekit.spec.strategy import Strategy


def freeze_(
    model: nn.Module,
    spec: str | Strategy | FreezePlan,
    *,
    lean: LeanChoice = False,
    thaw: bool = False,
    example_input: Any = None,  # Any: whatever the model takes
    registry: Registry | None = None,
) -> Frozen:
    """Freeze a model in place by a spec or a plan, and return its handle.

    Frozen parameters get `requires_grad=False` and lose their `.grad`. All others are trainable,
    but what arrives with `requires_grad=False` stays frozen unless `thaw` is true; a note in the
    report names it. On a model that is frozen already, what counts is how it arrived before the
    first `freeze_`.
    Modules in the plan's `eval_modules` are held in eval mode, through `model.train()`, deepcopy,
    pickle, wrappers and checkpoints. They keep their statistics through `reset_running_stats()` and
    `torch.optim.swa_utils.update_bn`. No module is replaced, and no state-dict key changes. A new
    plan replaces an earlier one: a frozen model is undone first. On an error the model stays as it
    was. Threads that freeze one model do so one after the other; the last handle is in force.

    Args:
        model: Any module.
        spec: Text such as "first-n-stages:n=2", a strategy, or a plan.
        lean: Keep between forward and backward only the tensors that gradients need. Kernels,
            losses and gradients stay the same to the last bit. docs/explanation/lean.md lists what
            is kept of each layer. With text such as "budget:2GiB", backward also computes modules
            again, so that a training step fits into that memory at the least extra time. The first
            forward chooses them. Where all fits, nothing is computed again.
        thaw: Train all that the spec does not freeze, also what arrives frozen.
        example_input: As in `Backbone`. With it, two forwards of a copy in train mode tell whether
            the forward itself changes frozen parts, which is warned of. The copy is on "meta"; a
            model on the CPU that needs values is copied as it is. Without it this is not observed;
            `verify` trains a copy and finds it too.
        registry: The strategies that the text can name. The default is all installed plugins.

    Raises:
        SpecError, StagingError, PlanError, PluginError: As in `plan`.
        ModelError: The model is no module.
        FreezeError: A part of the model was frozen on its own, or a frozen model around this one
            holds a part of it. Or the model is wrapped for several processes already, or traced. Or
            `lean` is no budget.
        SizeError: The size of a budget cannot be read.
        InsufficientMemoryError: Weights and gradients alone take more than the budget.

    Warns:
        FreezekitWarning: The plan probably does not do what the user meant. Or the model's own
            forward changes what is frozen (see `example_input`). Or the model was frozen
            and is thawed in part: optimizers and DistributedDataParallel that were made before do
            not know of it.

    Example:
        >>> from freezekit import freeze_, load_backbone
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = freeze_(model, "first-n-stages:n=2")
        >>> model.train().layer1.training, model.layer3.training
        (False, True)

        A strategy object does the same as its text:

        >>> from freezekit_strategies import FirstNStages
        >>> freeze_(model, FirstNStages(n=2)).plan == frozen.plan
        True

        With `lean`, the forward keeps less:

        >>> freeze_(model, "first-n-stages:n=3", lean=True).lean
        True

        With a budget, it also computes again what does not fit:

        >>> frozen = freeze_(model, "first-n-stages:n=3", lean="budget:2GiB")
        >>> print(frozen.report().splitlines()[-1])
        lean: autograd keeps only what gradients need (...); a step has 2 GiB, and the ...
    """
    budget = budget_bytes(lean)
    registry = registry or default_registry()
    check_model(model)
    with lock_of(model):
        check_parts(model)
        backbone = view(model, example_input, registry)
        decided = decide(backbone, spec, registry, thaw=thaw)
        check_trainable(model)
        if budget is not None:
            check_budget(model, decided.frozen, budget)
        decided = with_warnings(decided, write_warnings(backbone, decided))
        # Before any change, as warnings may be errors:
        warn((*decided.warnings, *thaw_warnings(model, decided)), stacklevel=3)
        if RECORD in model.__dict__:
            undo(model)
        apply(model, decided, lean=lean)
        return Frozen(backbone, registry, thaw=thaw)
