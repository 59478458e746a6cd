"""What the training of a Trainer must be like to be frozen by a callback, and what is refused."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import transformers
from accelerate.state import AcceleratorState

from freezekit.errors import FreezeError, ScheduleError
from freezekit.freezing.eval_hold import RECORD, arrival_flags
from freezekit.freezing.planning import warn
from freezekit.integrations.common_checks import check_version
from freezekit.spec.training_time import times_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from transformers import TrainerState

    from freezekit.freezing.plan import FreezePlan
    from freezekit.handle.frozen import Frozen
    from freezekit.spec.schedule import Schedule

TESTED = "5.0", "6"
"""transformers from the first on, below the second."""
SHARDED = "DEEPSPEED", "FSDP", "MEGATRON_LM"
"""Kinds of Accelerate's training in which a wrapper owns the parameters, or the optimizer."""


def check_trainer() -> None:
    """Refuse a training that this callback cannot drive.

    Raises:
        FreezeError: The model will be sharded over ranks.

    Warns:
        FreezekitWarning: The version of transformers was not tested.
    """
    kind = AcceleratorState().distributed_type.name
    if kind in SHARDED:
        raise FreezeError(
            f"this Trainer trains with {kind}, which takes parameters out of the model, and this "
            "callback cannot change a plan there. Train under DistributedDataParallel, or freeze "
            "the model yourself before the Trainer is made: freezekit.freeze_(model, spec)"
        )
    check_version("transformers", transformers.__version__, TESTED)


def part_of(model: nn.Module, path: str | None) -> nn.Module:
    """Return the part of a model that is to be frozen.

    Args:
        model: The model of the Trainer.
        path: Where the part is, such as "vit"; None stands for the whole model.

    Raises:
        FreezeError: There is no such part.

    Example:
        >>> from torch import nn
        >>> part_of(nn.ModuleDict({"vit": nn.Linear(1, 1)}), "vit")
        Linear(in_features=1, out_features=1, bias=True)
    """
    if path is None:
        return model
    try:
        return model.get_submodule(path)
    except AttributeError:
        names = ", ".join(repr(name) for name, _ in model.named_children())
        raise FreezeError(
            f"module={path!r} was given, and this {type(model).__name__} has no such module; it "
            f"has {names}"
        ) from None


def check_in_force(part: nn.Module, record: object) -> None:
    """Refuse to train a model that is frozen no more as this callback froze it.

    Args:
        part: What is frozen of the model that the Trainer trains now.
        record: The record of freezing that the callback's handle has.

    Raises:
        FreezeError: It is another model, or was frozen again or undone.
    """
    if part.__dict__.get(RECORD) is record:
        return
    if RECORD not in part.__dict__:
        raise FreezeError(
            "the model that is trained is not the one that FreezeCallback froze, or its freezing "
            "was undone, as by a second Trainer with the same callback. With model_init, Trainer "
            "makes a new model in train(): leave the callback out, and return a frozen model from "
            "model_init: freezekit.freeze_(model, spec)"
        )
    raise FreezeError(
        "the model was frozen again after this FreezeCallback froze it: by a second callback, or "
        "by freeze_(). One model has one plan: leave one of them out, or join specs with ' + '"
    )


def check_checkpointing(part: nn.Module, plan: FreezePlan, schedule: Schedule | None) -> None:
    """Refuse reentrant activation checkpointing behind what is frozen.

    It gives no gradients to a layer whose inputs need none, and says so in a warning alone.

    Raises:
        FreezeError: It is switched on.
    """
    if not plan.frozen and schedule is None:
        return
    for module in part.modules():
        function: Any = getattr(module, "_gradient_checkpointing_func", None)  # Any: a partial
        is_on = getattr(module, "gradient_checkpointing", False)
        if is_on and getattr(function, "keywords", {}).get("use_reentrant", False):
            raise FreezeError(
                "activation checkpointing is reentrant, and gives no gradients to layers behind "
                "what is frozen; leave use_reentrant out of its options, or give "
                "{'use_reentrant': False}"
            )


def check_adapters(model: nn.Module, frozen: Frozen, *, follows: bool) -> None:
    """Warn where the base below adapters is trained: checkpoints do not hold it.

    Args:
        model: That of the Trainer, which was frozen with `thaw=True`.
        frozen: The handle of it, or of a part.
        follows: Whether a schedule may train more later.

    Warns:
        FreezekitWarning: It is, or will be.
    """
    has_adapters = "PeftModel" in [cls.__name__ for cls in type(model).__mro__]
    if not (has_adapters or getattr(model, "_hf_peft_config_loaded", False)):
        return
    arrived = arrival_flags(frozen.backbone.model)
    trained = {n for n, p in frozen.backbone.model.named_parameters() if p.requires_grad}
    if follows or any(not arrived[name] for name in trained):
        warn(
            [
                "thaw=True trains the base below the adapters too, and PEFT saves adapters alone: "
                "checkpoints and save_model() do not hold the base, and a resumed training begins "
                "with that of before. Leave thaw out, or save model.state_dict() yourself"
            ],
            stacklevel=4,
        )


@contextmanager
def lengths_explained(schedule: Schedule, state: TrainerState) -> Iterator[None]:
    """Say what Trainer does not know, where a schedule refuses to begin without lengths.

    Raises:
        ScheduleError: The data have no length, and the schedule needs one.
    """
    try:
        yield
    except ScheduleError as error:
        times = times_in(vars(schedule).values())
        needs = any(time.unit == "%" or (time.unit == "ep" and time.amount % 1) for time in times)
        if not needs or state.num_train_epochs != sys.maxsize:  # so Trainer says "no length"
            raise
        raise ScheduleError(
            f"the schedule {str(schedule)!r} has times in percent or in parts of epochs, and the "
            "training data have no length, so that Trainer does not know these; give steps, as in "
            "'full at 500step'"
        ) from error
