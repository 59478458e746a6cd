"""What a training on features must be like, with a Trainer."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from freezekit.errors import CacheError
from freezekit.integrations.hugging_face_data import FeaturesForTrainer
from freezekit.plugins.registering import default_registry
from freezekit.schedules.asking import plan_of
from freezekit.spec.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.schedules.followed import FollowedSchedule

# Any in this file: Trainer's own objects.

ROUNDING = 1e-6
"""Of an epoch: 10 % of 30 epochs is not quite 3."""


def check_features(dataset: object, known: Sequence[FeaturesForTrainer]) -> None:
    """Refuse features that another callback made: they would stay images.

    Args:
        dataset: Of the training.
        known: The data sets that this callback made.

    Raises:
        CacheError: The data set is of another callback.
    """
    if isinstance(dataset, FeaturesForTrainer) and not any(each is dataset for each in known):
        raise CacheError(
            "train_dataset is from features_of() of another FreezeCallback, which this Trainer "
            "was not given: give Trainer(callbacks=[callback]) the one that made it"
        )


def check_changes(run: FollowedSchedule, backbone: Backbone, args: Any) -> None:
    """Refuse changes of plan that features cannot follow, as far as they are known.

    Args:
        run: The schedule, as it begins.
        backbone: Of the model.
        args: The TrainingArguments.

    Raises:
        CacheError: Workers persist, or a phase thaws within an epoch.
    """
    if args.dataloader_persistent_workers and args.dataloader_num_workers:
        raise CacheError(
            "dataloader_persistent_workers=True keeps workers with features of before each change "
            "of plan; leave it out, under a schedule with features_of()"
        )
    schedule, now = run.schedule, run.progress
    if not isinstance(schedule, Timeline) or now.steps_per_epoch is None:
        return  # not known: TakesRows refuses it when it happens
    plans = [plan_of(spec, backbone, now, default_registry()) for spec in schedule.plans()]
    for (before, plan), (time, spec) in zip(pairwise(plans), schedule.phases[1:], strict=True):
        epochs = now.in_epochs(time)
        if before.frozen - plan.frozen and abs(epochs - round(epochs)) > ROUNDING:
            raise CacheError(
                f"phase {spec!r} begins at {time}, within an epoch of {now.steps_per_epoch} "
                "step(s), and Trainer reads a batch ahead: its features would be those of the "
                f"phase before. Let it begin between epochs, as in '{spec} at "
                f"{max(1, round(epochs))}ep', or give Trainer the images"
            )
