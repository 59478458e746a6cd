"""`FreezeCallback` and `optimizers` for the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from accelerate.utils import send_to_device
from transformers import TrainerCallback

from freezekit.errors import FreezeError
from freezekit.freezing.eval_hold import RECORD
from freezekit.integrations.beginning import freeze_at_first, schedule_or_spec, undo_earlier
from freezekit.integrations.common_checks import Departures, check_held, check_sample
from freezekit.integrations.hugging_face_checks import (
    check_adapters,
    check_checkpointing,
    check_in_force,
    check_trainer,
    lengths_explained,
    part_of,
)
from freezekit.integrations.hugging_face_data import FeaturesForTrainer
from freezekit.integrations.hugging_face_features import check_changes, check_features
from freezekit.integrations.hugging_face_optimizer import fit_optimizer, optimizers
from freezekit.integrations.hugging_face_states import put_state, take_state
from freezekit.integrations.hugging_face_trainer import lengths_of, numbers_in, wrapper_of
from freezekit.integrations.resuming import end_missed_epoch, warn_of_anew
from freezekit.plugins.registering import default_registry
from freezekit.spec.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from freezekit.freezing.plan import FreezePlan
    from freezekit.handle.frozen import Frozen
    from freezekit.integrations.cached_loader import CacheOptions
    from freezekit.results.lean_text import LeanChoice
    from freezekit.schedules.change import Moments
    from freezekit.schedules.followed import FollowedSchedule
    from freezekit.spec.strategy import Strategy

__all__ = ["FreezeCallback", "optimizers"]

# Any in this file: Trainer's own objects, what torch.save holds, and what a model takes.

HELD_ADVICE = "make the optimizer with optimizers(model, args), or after the model was frozen"
RESUME_ADVICE = "give train() a checkpoint of a training with this callback, and with its optimizer"


class FreezeCallback(TrainerCallback):
    """Freezes the model of a Trainer, and drives its schedule.

    The model is frozen when the Trainer is made: before its optimizer and its wrapper. A schedule
    is driven by the steps of the optimizer, by epochs and by what is logged. Its state stands in
    the checkpoints, with that of the optimizer. After the training the model stays frozen, as a
    part of it was trained.

    A schedule, and a plan with multipliers of learning rates, need
    `Trainer(optimizers=optimizers(model, args))`: Trainer's own optimizer holds what is trained at
    first, and nothing that is thawed later. docs/guides/hugging-face.md has a whole training.

    Attributes:
        run: The schedule that is followed, with its transitions; None without one.

    Example:
        >>> from freezekit.integrations.hugging_face import FreezeCallback
        >>> FreezeCallback("head-only then full at 3ep", lean=True)
        FreezeCallback('head-only then full at 3ep')
    """

    def __init__(
        self,
        spec: str | Strategy | FreezePlan | Schedule,
        *,
        lean: LeanChoice = False,
        thaw: bool = False,
        module: str | None = None,
        example_input: Any = None,
        sample: Any = None,
        moments: Moments = "keep",
    ) -> None:
        """Say what is frozen.

        Args:
            spec: Text such as "first-n-stages:n=2", a strategy, or a plan. Or a schedule, or its
                text, such as "head-only then full at 3ep".
            lean: As in `freeze_`.
            thaw: As in `freeze_`.
            module: A part of the model that is frozen in place of the whole, such as "vit".
            example_input: As in `freeze_`.
            sample: As in `Frozen.follow`.
            moments: As in `Frozen.follow`.

        Raises:
            SpecError: The text cannot be read, or names what no plugin provides.
            ScheduleError: The schedule needs a sample.
        """
        self.run: FollowedSchedule | None = None
        self._given = schedule_or_spec(spec, default_registry())
        self._schedule = self._given if isinstance(self._given, Schedule) else None
        check_sample(self._schedule, sample)
        self._lean, self._thaw, self._module = lean, thaw, module
        self._example_input, self._sample, self._moments = example_input, sample, moments
        self._frozen: Frozen | None = None
        self._record: object = None
        self._departures: Departures | None = None
        self._features: list[FeaturesForTrainer] = []
        self._state: Mapping[str, Any] | None = None
        self._metrics: dict[str, float] = {}  # of the epoch that goes on
        self._has_epoch_ended = False

    def __repr__(self) -> str:
        return f"FreezeCallback({str(self._given)!r})"

    @property
    def frozen(self) -> Frozen:
        """The handle of the frozen model, once the Trainer is made.

        Raises:
            FreezeError: Nothing is frozen yet.
        """
        if self._frozen is None:
            raise FreezeError(
                "nothing is frozen yet: the callback freezes when Trainer(callbacks=[callback]) is "
                "made, and not where add_callback() gives it to a Trainer later"
            )
        return self._frozen

    def features_of(self, dataset: Any, **options: Unpack[CacheOptions]) -> FeaturesForTrainer:
        """Return a data set for `Trainer(train_dataset=...)`, with features once training begins.

        The frozen prefix is computed once for each sample: `Frozen.cache` documents what can be
        cached, and the options. The model takes a sample as `model(**sample)`.

        Args:
            dataset: The images: its samples are dicts, as Trainer takes them.
            options: Those of `freezekit.integrations.CacheOptions`.

        Raises:
            CacheError: There are no samples by index, or no such options.
        """
        features = FeaturesForTrainer(dataset, options)
        self._features.append(features)
        return features

    def on_init_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **given: Any,
    ) -> None:
        """Freeze, and divide the groups of the optimizer where rates need it."""
        check_trainer()
        if self._frozen is not None:  # of an earlier Trainer
            undo_earlier(self._frozen, given["model"])
            self.run = None
            for features in self._features:
                features.forget()
        part, optimizer = part_of(given["model"], self._module), given["optimizer"]
        frozen = freeze_at_first(
            part,
            self._given,
            default_registry(),
            lean=self._lean,
            thaw=self._thaw,
            example_input=self._example_input,
        )
        self._frozen, self._record = frozen, part.__dict__[RECORD]
        if self._thaw:
            check_adapters(given["model"], frozen, follows=self._schedule is not None)
        fit_optimizer(optimizer, given["lr_scheduler"], frozen, self._schedule, thaw=self._thaw)
        if optimizer is not None:
            optimizer.register_state_dict_post_hook(self._put_state)
            optimizer.register_load_state_dict_pre_hook(self._take_state)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **given: Any,
    ) -> None:
        """Follow the schedule, and fill caches, now that data, optimizer and states are there."""
        frozen = self.frozen
        check_in_force(part_of(given["model"], self._module), self._record)
        self._departures = Departures(frozen)
        self._departures.look()
        check_checkpointing(frozen.backbone.model, frozen.plan, self._schedule)
        if self._schedule is None:  # follow() looks through all phases
            check_held(frozen, [given["optimizer"]], HELD_ADVICE)
        else:
            with lengths_explained(self._schedule, state):
                self._follow(self._schedule, args, state, given)
        loader = given["train_dataloader"]
        check_features(getattr(loader, "dataset", None), self._features)
        if self._features and self.run is not None:
            check_changes(self.run, frozen.backbone, args)
        for features in self._features:
            features.fill(frozen, loader, state.train_batch_size or args.train_batch_size)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Tell the schedule of the step."""
        if self._departures is not None:
            self._departures.after_step()
        if self.run is not None:
            self.run.step()

    def on_log(self, *_: Any, **given: Any) -> None:
        """Keep what was logged, where the schedule looks at it: ranks may log other names."""
        if self.run is not None and "metrics" in self.run.schedule.observes:
            self._metrics |= numbers_in(given["logs"])

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Wait for the evaluation of this epoch, which comes after this hook."""
        if self._departures is not None:
            self._departures.look()
        self._has_epoch_ended = True

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Tell the schedule of the epoch before; choose the augmented views of this one."""
        self._end_epoch()
        for features in self._features:
            features.set_epoch(int(state.epoch))

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """End the schedule. The model stays frozen."""
        if not args.load_best_model_at_end:  # a schedule may restore other weights
            self._end_epoch()
        if self.run is not None:
            self.run.close()

    def _follow(
        self,
        schedule: Schedule,
        args: TrainingArguments,
        state: TrainerState,
        given: Mapping[str, Any],
    ) -> None:
        saved, self._state = self._state if state.global_step else None, None
        warn_of_anew(state.global_step, saved, RESUME_ADVICE)
        epochs, steps_per_epoch = lengths_of(args, state, given["train_dataloader"])
        self.run = self.frozen.follow(
            schedule,
            given["optimizer"],
            [given["lr_scheduler"]],
            wrapper_of(self.frozen.backbone.model),
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            sample=send_to_device(self._sample, args.device),
            moments=self._moments,
            state=None if saved is None else saved["followed"],
        )
        self._metrics = {} if saved is None else dict(saved["metrics"])
        self._has_epoch_ended = False
        if saved is not None and end_missed_epoch(
            self.run, int(state.epoch), self._metrics, "Trainer"
        ):
            self._metrics = {}

    def _end_epoch(self) -> None:
        if self.run is None or not self._has_epoch_ended:
            return
        metrics, self._metrics, self._has_epoch_ended = self._metrics, {}, False
        self.run.epoch(metrics)

    def _put_state(self, _: object, saved: dict[str, Any]) -> None:
        followed = None
        if self.run is not None:
            followed = {"followed": self.run.state_dict(), "metrics": self._metrics}
        if followed is not None or self._schedule is None:  # else before the training
            put_state(saved, str(self._given), self.frozen, followed)

    def _take_state(self, optimizer: Optimizer, saved: dict[str, Any]) -> None:
        follows = self._schedule is not None
        self._state = take_state(optimizer, saved, str(self._given), self.frozen, follows=follows)
