"""The hooks of `FreezeCallback`, the same for both packages of Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezeError, FreezekitError, ScheduleError, StagingError
from freezekit.freezing.eval_hold import ask_modes, asked_modes
from freezekit.freezing.parameter_groups import check_rate
from freezekit.freezing.plan import FreezePlan
from freezekit.integrations.beginning import freeze_at_first, schedule_or_spec, undo_earlier
from freezekit.integrations.common_checks import Departures, check_held, check_sample
from freezekit.integrations.lightning_advice import HELD_ADVICE, about_features, advised
from freezekit.integrations.lightning_checks import (
    cache_options,
    check_trainer,
    model_in,
    staging_advice,
)
from freezekit.integrations.lightning_data import FeaturesForTraining
from freezekit.integrations.lightning_optimizer import fit_optimizers
from freezekit.integrations.lightning_trainer import (
    has_steps_that_change,
    known_epochs,
    lengths_of,
    schedulers_of,
    wrapper_of,
)
from freezekit.integrations.resuming import (
    end_missed_epoch,
    warn_of_anew,
    warn_of_another_plan,
)
from freezekit.plugins.registering import default_registry
from freezekit.spec.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from freezekit.handle.frozen import Frozen
    from freezekit.integrations.cached_loader import CacheOptions
    from freezekit.results.lean_text import LeanChoice
    from freezekit.schedules.change import Moments
    from freezekit.schedules.followed import FollowedSchedule
    from freezekit.spec.strategy import Strategy


class FreezeHooks:
    """Freezes the model of a Lightning training before its optimizer and its wrapper are made.

    A schedule is driven by the steps of the optimizer, by epochs and by what is logged. Its state
    stands in the checkpoints. After `fit` the model stays frozen, as a part of it was trained.

    The optimizer must hold all that is ever trained: `self.parameters()`, or
    `callback.frozen.param_groups(...)`. Where rates need it, its groups are divided by stage.

    With `fast_dev_run`, a schedule stays in its first phase.

    A trainer takes one: join specs with " + ". One callback may serve several models in turn.

    Attributes:
        run: The schedule that is followed, with its transitions; None without one.
    """

    def __init__(
        self,
        spec: str | Strategy | FreezePlan | Schedule,
        *,
        lean: LeanChoice = False,
        thaw: bool = False,
        lr: float | None = None,
        module: str | None = None,
        cache: bool | CacheOptions | None = None,
        example_input: Any = None,  # Any: whatever the model takes
        sample: Any = None,  # Any: as above
        moments: Moments = "keep",
    ) -> None:
        """Say what is frozen.

        Args:
            spec: Text such as "first-n-stages:n=2", a strategy, or a plan. Or a schedule, or its
                text, such as "head-only then full at 3ep".
            lean: As in `freeze_`.
            thaw: As in `freeze_`.
            lr: The learning rate of the optimizer, in place of the one that it was made with. It
                is multiplied by the multipliers of the plan, as that one would be.
            module: Where the model is inside the LightningModule, such as "model" or
                "model.encoder"; "" stands for the LightningModule itself. The default is the only
                child with parameters, or else the LightningModule itself.
            cache: True, or options of `Frozen.cache`: the frozen prefix is computed once. The data
                set of the training's DataLoader is replaced, and `training_step` must give the
                image of a batch to the model alone.
            example_input: As in `freeze_`. The default is the `example_input_array` of the
                LightningModule.
            sample: As in `Frozen.follow`.
            moments: As in `Frozen.follow`.

        Raises:
            SpecError: The text cannot be read, or names what no plugin provides.
            CacheError: An option of the cache has another name.
            ScheduleError: The schedule needs a sample.
            FreezeError: `lr` is no finite number of at least 0, or `cache` has no options.
        """
        if lr is not None:
            check_rate("lr", lr)
        self.run: FollowedSchedule | None = None
        self._frozen: Frozen | None = None
        given = schedule_or_spec(spec, default_registry())
        self._schedule = given if isinstance(given, Schedule) else None
        self._begin = "full" if isinstance(given, Schedule) else given
        self._lean, self._thaw, self._lr, self._module = lean, thaw, lr, module
        self._example_input, self._sample, self._moments = example_input, sample, moments
        self._cache = cache_options(cache)
        check_sample(self._schedule, sample)
        self._departures: Departures | None = None
        self._features: FeaturesForTraining | None = None
        self._modes: dict[nn.Module, bool] = {}
        self._state: Mapping[str, Any] | None = None  # Any: what torch.save holds
        self._metrics: dict[str, float] = {}  # of the epoch that a checkpoint was written in

    def __repr__(self) -> str:
        return f"FreezeCallback({str(self._schedule or self._begin)!r})"

    @property
    def frozen(self) -> Frozen:
        """The handle of the frozen model, from `configure_optimizers` on.

        Raises:
            FreezeError: No training has begun.
        """
        if self._frozen is None:
            raise FreezeError(
                "nothing is frozen yet: the callback freezes when fit() begins, before "
                "configure_optimizers() is called"
            )
        return self._frozen

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # Any: of either package
        """Freeze, before the optimizer is made and the strategy wraps the model."""
        if stage != "fit":
            return
        check_trainer(trainer, pl_module, self, follows=self._schedule is not None)
        if self._frozen is not None:  # of an earlier fit()
            undo_earlier(self._frozen, pl_module)
        self.run, self._state, self._metrics = None, None, {}
        self._frozen = self._freeze(pl_module, trainer.max_epochs)
        self._modes = asked_modes(self._frozen.backbone.model)
        if self._cache is not None:
            may_persist = self._schedule is None
            self._features = FeaturesForTraining(
                self._frozen, trainer, self._cache, may_persist=may_persist
            )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Any: as above
        """Divide the groups of the optimizer, before its state is loaded."""
        frozen, optimizers = self.frozen, trainer.optimizers
        self._departures = Departures(frozen)
        self._departures.look()
        if self._schedule is None:  # follow() looks through all phases
            check_held(frozen, optimizers, HELD_ADVICE)
        fit_optimizers(
            trainer, frozen, self._schedule, default_registry(), lr=self._lr, thaw=self._thaw
        )
        saved = self._saved_plan()
        if saved is None or saved == frozen.plan:
            return
        if self._schedule is not None:
            frozen.change_(saved, optimizers[0], schedulers_of(trainer), wrapper_of(trainer))
            self._modes = asked_modes(frozen.backbone.model)
        else:
            warn_of_another_plan(self)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Any: as above
        """Follow the schedule, now that data, optimizer and states are there."""
        if self._schedule is None or trainer.fast_dev_run:
            self._state = None
            return
        state = None if self._state is None else self._state["frozen"]["followed"]
        warn_of_anew(
            trainer.global_step, state, "give fit() the ckpt_path of a training with this callback"
        )
        sample = self._sample
        if sample is not None:
            sample = trainer.strategy.batch_to_device(sample)
        epochs, steps_per_epoch = lengths_of(trainer)
        if has_steps_that_change(trainer):
            epochs, steps_per_epoch = known_epochs(trainer), None
        try:
            self.run = self.frozen.follow(
                self._schedule,
                trainer.optimizers[0],
                schedulers_of(trainer),
                wrapper_of(trainer),
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
                sample=sample,
                moments=self._moments,
                state=state,
            )
        except FreezekitError as error:
            raise advised(error, trainer) from None
        if self._state is not None:
            self._metrics, self._state = dict(self._state["metrics"]), None
            ended = trainer.current_epoch
            if end_missed_epoch(self.run, ended, self._metrics, "Lightning"):
                self._metrics = {}
        self._modes = asked_modes(self.frozen.backbone.model)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Any: as above
        """Choose the augmented views of the epoch."""
        self._modes = asked_modes(self.frozen.backbone.model)
        if self._features is not None:
            self._features.set_epoch(trainer.current_epoch)

    def on_train_batch_end(self, *_: object) -> None:
        """Tell the schedule of the step; it counts those that the optimizer has made."""
        if self._departures is not None:
            self._departures.after_step()
        if self.run is not None and self.run.step() is not None:
            self._modes = asked_modes(self.frozen.backbone.model)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Any: as above
        """Undo what `eval()` asked of held modules: Lightning restores the modes of others only."""
        ask_modes(self._modes)
        self._metrics |= self._logged(trainer)  # for a checkpoint that is written now

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Any: as above
        """Tell the schedule of the epoch, with what was logged in it and in the validation."""
        if self._departures is not None:
            self._departures.look()
        if self.run is None:
            return
        metrics = self._metrics | self._logged(trainer)
        self._metrics = {}
        try:
            change = self.run.epoch(metrics)
        except ScheduleError as error:
            raise advised(error, trainer) from None
        if change is not None:
            self._modes = asked_modes(self.frozen.backbone.model)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002  # Any: as above
        """End the schedule; say what a cache needs, where its features may be the reason."""
        if self.run is not None:
            self.run.close()
        if self._features is not None:
            about_features(exception, trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Any: as above
        """End the schedule, and give the trainer its own data back. The model stays frozen."""
        if stage != "fit":
            return
        if self.run is not None:
            self.run.close()
        if self._features is not None:
            self._features.remove()

    def state_dict(self) -> dict[str, Any]:  # Any: what torch.save holds
        """Return the plan in force and the state of the schedule, for a checkpoint."""
        if self._state is not None:  # it was loaded, and the training has not begun
            return dict(self._state)
        if self._frozen is None:
            return {}
        return {"frozen": self._frozen.state_dict(), "metrics": self._metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # Any: as above
        """Keep the state until the optimizer is there."""
        self._state = state

    def _freeze(self, pl_module: Any, epochs: int | None) -> Frozen:  # Any: as above
        model = model_in(pl_module, self._module)
        example = self._example_input
        if example is None:
            example = getattr(pl_module, "example_input_array", None)
        try:
            return freeze_at_first(
                model,
                self._schedule or self._begin,
                default_registry(),
                epochs=epochs,
                lean=self._lean,
                thaw=self._thaw,
                example_input=example,
            )
        except StagingError as error:
            raise StagingError(f"{error}{staging_advice(pl_module, model)}") from error

    def _saved_plan(self) -> FreezePlan | None:
        return None if self._state is None else FreezePlan.from_json(self._state["frozen"]["plan"])

    def _logged(self, trainer: Any) -> dict[str, float]:  # Any: as above
        """Return what was logged, where the schedule looks at it: ranks may log other names."""
        if self.run is None or "metrics" not in self.run.schedule.observes:
            return {}
        return {name: float(value) for name, value in trainer.callback_metrics.items()}
