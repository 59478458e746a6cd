"""The optimizer of a Trainer, made before it: over all parameters, with groups that fit a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch.optim import Optimizer
from transformers import Trainer

from freezekit.errors import FreezeError
from freezekit.integrations.regrouping import divide_groups, is_grouped, places_for
from freezekit.plugins.registering import default_registry

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, TrainingArguments

    from freezekit.handle.frozen import Frozen
    from freezekit.spec.schedule import Schedule


def optimizers(model: nn.Module, args: TrainingArguments) -> tuple[Optimizer, None]:
    """Return the optimizer that Trainer would make, over all parameters, for its `optimizers=`.

    Trainer's own optimizer holds what is trained when it is made, so that nothing can be thawed
    later. This one has the same class, options and weight decay. What is frozen has no gradient,
    and the optimizer leaves it. Trainer makes the learning-rate scheduler, as ever.

    Args:
        model: That of the Trainer.
        args: Those of the Trainer.

    Raises:
        FreezeError: `args.optim` names an optimizer that makes its own groups.

    Example:
        >>> from transformers import TrainingArguments
        >>> from freezekit.testing import MODELS
        >>> args = TrainingArguments(weight_decay=0.05, use_cpu=True, report_to="none")
        >>> optimizer, scheduler = optimizers(MODELS["residual"](), args)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.05, 0.0]
    """
    # Trainer declares its own base class, and takes any module.
    its = cast("PreTrainedModel", model)
    cls, options = Trainer.get_optimizer_cls_and_kwargs(args, its)
    own = {"params", "model", "optimizer_dict"} & options.keys()
    if own or not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise FreezeError(
            f"optim={str(args.optim)!r} makes its own parameter groups; give one that takes "
            "groups, such as 'adamw_torch', or Trainer(optimizers=...) your own optimizer"
        )
    # A method that does not look at its Trainer, which is not there yet.
    decayed = set(Trainer.get_decay_parameter_names(cast("Trainer", None), model))
    trainable = [(n, p) for n, p in model.named_parameters() if p.is_floating_point()]
    groups = [
        {
            "params": [p for name, p in trainable if (name in decayed) == decays],
            "weight_decay": args.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return cls(groups, **options), None


def fit_optimizer(
    optimizer: Any,  # Any: an Optimizer, or none
    scheduler: Any,  # Any: of torch or another, or none
    frozen: Frozen,
    schedule: Schedule | None,
    *,
    thaw: bool,
) -> None:
    """Divide the groups of an optimizer where rates need it.

    Groups that `Frozen.param_groups` made stay.

    Raises:
        FreezeError: Rates need it, and the Trainer will make an optimizer of its own.
        SpecError, PlanError: A later plan of the schedule cannot be made.
    """
    places = places_for(frozen, schedule, default_registry(), thaw=thaw)
    if not places:
        return
    if optimizer is None:
        why = "a schedule" if schedule is not None else "a plan with multipliers of learning rates"
        raise FreezeError(
            f"{why} needs an optimizer whose groups hold all parameters, and Trainer would make "
            "one of what is trained at first. Make it before: Trainer(model, args, "
            "optimizers=optimizers(model, args), ...), with optimizers from "
            "freezekit.integrations.hugging_face. If create_optimizer() of your Trainer makes an "
            "optimizer, make it before, of all parameters: optimizers=(optimizer, None)"
        )
    if not is_grouped(optimizer):
        divide_groups(optimizer, [] if scheduler is None else [scheduler], places)
