"""What stands of a frozen training in the checkpoints of a Trainer, beside its optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezeError
from freezekit.freezing.plan import FreezePlan
from freezekit.integrations.resuming import warn_of_another_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer

    from freezekit.handle.frozen import Frozen

# Any in this file: what torch.save holds.

KEY = "freezekit"
"""Where the state stands in the state dict of the optimizer."""


def put_state(
    saved: dict[str, Any], spec: str, frozen: Frozen, followed: Mapping[str, Any] | None
) -> None:
    """Add the state of freezing to that of an optimizer.

    Args:
        saved: The state of the optimizer.
        spec: What the callback was given.
        frozen: The handle.
        followed: The state of the schedule, if there is one.
    """
    saved[KEY] = {"spec": spec, "plan": frozen.plan.to_json(), "schedule": followed}


def take_state(
    optimizer: Optimizer, saved: Mapping[str, Any], spec: str, frozen: Frozen, *, follows: bool
) -> Mapping[str, Any] | None:
    """Return the state of the schedule in that of an optimizer, before it is loaded.

    Args:
        optimizer: That of this training.
        saved: The state of another one.
        spec: What the callback of this training was given.
        frozen: The handle.
        follows: Whether that is a schedule, which looks at the state itself.

    Raises:
        FreezeError: The optimizer has other groups than the saved one.

    Warns:
        FreezekitWarning: The state was saved under another plan.
    """
    known = saved.get(KEY)
    before = [len(group["params"]) for group in saved["param_groups"]]
    now = [len(group["params"]) for group in optimizer.param_groups]
    if before != now:
        under = "with another optimizer" if known is None else f"under {known['spec']!r}"
        raise FreezeError(
            f"the checkpoint was written {under}, and this training is under {spec!r}: that "
            f"optimizer has {len(before)} group(s) with {sum(before)} parameter(s), and this one "
            f"{len(now)} with {sum(now)}. Resume under the spec of the checkpoint, or begin a new "
            "training with its weights: from_pretrained(checkpoint)"
        )
    if known is None:
        return None
    followed: Mapping[str, Any] | None = known["schedule"]
    if not follows and FreezePlan.from_json(known["plan"]) != frozen.plan:
        warn_of_another_plan(repr(spec))
    return followed
