"""The handle of a frozen model, which `freeze_` returns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

from freezekit.errors import FreezeError, PlanError, ScheduleError, SpecError
from freezekit.freezing.apply import lock_of, undo
from freezekit.freezing.departures import Live, look, warning
from freezekit.freezing.eval_hold import RECORD, Record
from freezekit.freezing.parameter_groups import (
    check_rate,
    group_for_all_phases,
    group_parameters,
)
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import check_plan, decide, warn
from freezekit.freezing.thawing import thaw_warnings
from freezekit.handle.in_groups import (
    HandedOut,
    rates,
    warning_of_groups,
    warnings_of_optimizer,
)
from freezekit.plugins.registering import default_registry
from freezekit.schedules.change import Change, Moments, Training, change, check_training
from freezekit.schedules.epochs import check_lengths
from freezekit.schedules.followed import FollowedSchedule
from freezekit.spec.progress import Progress
from freezekit.spec.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.cache.dataset import CachedDataset
    from freezekit.cache.records import OnThaw
    from freezekit.freezing.describe import FreezeMap
    from freezekit.model.loss import LossFunction
    from freezekit.plugins.registry import Registry
    from freezekit.spec.strategy import Strategy
    from freezekit.verify.records import ScheduleVerification, Verification


class Frozen:
    """The handle of a frozen model. It reports, makes parameter groups, verifies and undoes.

    Attributes:
        backbone: The read-only view of the model.
        lean: Whether autograd keeps only the tensors that gradients need; also with a budget.
    """

    def __init__(
        self, backbone: Backbone, registry: Registry | None = None, *, thaw: bool = False
    ) -> None:
        self.backbone = backbone
        self._given_registry = registry
        self._thaw = thaw
        self._record: Record = backbone.model.__dict__[RECORD]
        self._followed: FollowedSchedule | None = None
        self._handed_out: HandedOut | None = None
        self._caches: list[ref[CachedDataset]] = []
        self.lean: bool = self._record.lean is not None

    def __getstate__(self) -> dict[str, Any]:  # Any: the protocol of pickle
        """A copy has the plan of its model; plugins and a live training do not travel."""
        left: dict[str, Any] = {
            "_given_registry": None,
            "_followed": None,
            "_handed_out": None,
            "_caches": [],
        }
        return vars(self) | left

    @property
    def _registry(self) -> Registry:
        return self._given_registry or default_registry()

    @property
    def recomputed(self) -> tuple[str, ...]:
        """Names of the modules that backward computes again, as a budget of memory chose them.

        Empty before the first forward, where all fits, and without a budget.
        """
        return () if self._record.lean is None else self._record.lean.recomputed

    @property
    def recomputed_flops(self) -> float:
        """The FLOPs of `recomputed`, as a fraction of those of a step without."""
        return 0.0 if self._record.lean is None else self._record.lean.more_flops

    @property
    def plan(self) -> FreezePlan:
        """The plan in force, with the names of `eval_modules`."""
        return self._record.plan

    def __repr__(self) -> str:
        name = type(self.backbone.model).__name__
        live = self._look()
        if live is None:
            return f"Frozen({name}: no longer in force)"
        return (
            f"Frozen({name}: {len(live.plan.frozen)} of "
            f"{len(live.backbone.parameters)} parameters frozen, "
            f"{len(live.plan.eval_modules or ())} modules held in eval"
            f"{', lean' if self.lean else ''}"
            f"{', departed from its plan' if live.departures else ''})"
        )

    def __str__(self) -> str:
        return self.report()

    def _repr_html_(self) -> str:
        """Return the report as HTML; a notebook shows it for a cell that ends with the handle."""
        from freezekit.handle.notebook import as_html  # it imports jinja2

        return as_html(*self._reported(None))

    def report(self, optimizer: Optimizer | None = None) -> str:
        """Return a table with one row per stage: trainable, frozen, held in eval, learning rate.

        The table tells what is true of the model now. Where that is no longer what the plan says, a
        warning under the table says so: flags that were changed, a new head, modules that were
        replaced, parameters that came after `param_groups`. A handle that is no longer in force
        reports its plan, and says that first. `print(frozen)` shows the report too, and a notebook
        shows it as a table.

        Args:
            optimizer: The optimizer that trains the model. The column of learning rates is then of
                its groups, and a warning tells what they lack, or hold of another model.

        Raises:
            FreezeError: `optimizer` is none.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", num_classes=10, device="meta")
            >>> frozen = freeze_(model, "head-only")
            >>> print(frozen.report().splitlines()[0])
            ResNet: 5,130 of 11,181,642 parameters trained (0.0 %)
            >>> optimizer = torch.optim.SGD(frozen.param_groups(lr=0.1))
            >>> model.fc = torch.nn.Linear(512, 10, device="meta")
            >>> print(frozen.report(optimizer))
            ResNet: 5,130 of 11,181,642 parameters trained (0.0 %)
            ...
            warning: 2 trained parameter(s) are in no group of the SGD: 'fc.bias', ...
        """
        from freezekit.freezing.describe import describe  # it imports rich; freezing does not

        shown, beside = self._reported(optimizer)
        return "\n".join((describe(shown), *beside))

    def _reported(self, optimizer: Optimizer | None) -> tuple[FreezeMap, tuple[str, ...]]:
        """Return the map of what is true now, and lines about all beside the plan."""
        from freezekit.freezing.describe import freeze_map

        live = self._look()
        if live is None:
            shown = freeze_map(self.backbone, self.plan)
            said = f"no longer in force; this was the plan:\n{shown.headline}"
            return replace(shown, headline=said), ()
        warnings = self._about_groups() if optimizer is None else ()
        if optimizer is not None:
            warnings = warnings_of_optimizer(live.backbone, live.plan, optimizer)
        shown = freeze_map(
            live.backbone, live.plan, None if optimizer is None else rates(optimizer)
        )
        beside = [
            *(f"schedule: {each!r}" for each in (self._followed,) if each is not None),
            *(f"cache: {cached!r}" for cached in self._live_caches()),
        ]
        if self._record.lean is not None:
            beside.append(f"lean: {self._record.lean.description}")
        return replace(shown, warnings=(*shown.warnings, *warnings)), tuple(beside)

    def param_groups(
        self,
        lr: float,
        weight_decay: float = 0.0,
        *,
        all_phases: bool | str | Sequence[str | Strategy | FreezePlan] = False,
    ) -> list[dict[str, Any]]:
        """Return parameter groups for a torch optimizer. Each parameter is in one group.

        Each group has "params", "lr" (`lr` times the plan's multiplier), "weight_decay", "name" and
        "freezekit_lr_multiplier". Some parameters get no weight decay, as in timm: norms, biases,
        other parameters of fewer than two dimensions, and those that the model's
        `no_weight_decay()` names.

        The groups hold what is trained now, also where the model has departed from its plan. New
        parameters have no multiplier.

        With `all_phases` the groups hold all parameters, also the frozen ones, by stage. One
        optimizer made of them goes through all phases of a training: what is frozen has no
        gradient, and PyTorch's optimizers leave it as it is, with its momentum and weight decay.
        Groups, and the shape of the optimizer's state dict, never change.

        Args:
            lr: Learning rate of parameters without a multiplier.
            weight_decay: Weight decay of all other parameters.
            all_phases: True, the text of a schedule, or the specs and plans of later phases. A
                stage to whose parameters one of these gives several multipliers, as `layer-decay`
                does, has several groups; with True, only the plan in force counts.

        Raises:
            FreezeError: The model is no longer frozen by this handle, or nothing is trained. Or
                `lr` or `weight_decay` is negative, or no finite number.
            SpecError, PlanError: As in `plan`, of `all_phases`.

        Warns:
            FreezekitWarning: The model has departed from its plan since `freeze_`: its flags were
                changed, parameters are new or gone, or modules are no longer held.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", device="meta")
            >>> frozen = freeze_(model, "discriminative-lr:decay=0.5")
            >>> groups = frozen.param_groups(lr=0.1, weight_decay=0.01)
            >>> [(g["name"], g["lr"], g["weight_decay"]) for g in groups][-2:]
            [('lr x 1', 0.1, 0.01), ('lr x 1, no decay', 0.1, 0.0)]
            >>> optimizer = torch.optim.SGD(groups)

            >>> groups = freeze_(model, "head-only").param_groups(lr=0.1, all_phases=True)
            >>> [g["name"] for g in groups][:3], sum(len(g["params"]) for g in groups)
            (['stem', 'stem, no decay', 'layer1'], 62)
        """
        check_rate("lr", lr)
        check_rate("weight_decay", weight_decay)
        live = self._look()
        if live is None:
            raise self._not_in_force()
        if live.departures:
            warn([warning(live.departures)], stacklevel=3)
        if all_phases:
            others = self._later_plans(all_phases)
            groups = group_for_all_phases(live.backbone, live.plan, others, lr, weight_decay)
        else:
            groups = group_parameters(live.backbone, live.plan, lr, weight_decay)
        if not groups:
            raise FreezeError(
                f"no parameter of this {type(self.backbone.model).__name__} is trained now: flags "
                "were changed after it was frozen, or parts have left it; call freeze_() again"
            )
        self._handed_out = HandedOut(groups)
        return groups

    def change_(
        self,
        spec: str | Strategy | FreezePlan,
        optimizer: Optimizer | None = None,
        schedulers: Sequence[Any] = (),  # Any: torch's, timm's and others have no common class
        ddp: DistributedDataParallel | None = None,
        *,
        moments: Moments = "keep",
    ) -> Change:
        """Put another plan in force on a model in training. This handle stays in force.

        Call it between `optimizer.step()` and the next forward, on every rank. Flags and modes
        change, and what is frozen loses its `.grad`. Learning rates of the optimizer follow the
        multipliers of the new plan, and so do the base rates of its schedulers. The wrapper reduces
        the gradients of exactly what is trained now, and stays the same object. Statistics that are
        held from now on are those of the first rank. A model under `fully_shard` needs no `ddp`;
        its plans are made before it is sharded. With `torch.compile` the next step compiles anew.

        With gradient accumulation, call it after the step of the optimizer: parameters that it
        thaws have no gradients of the small batches before it.

        Args:
            spec: Text such as "first-n-stages:n=2", a strategy, or a plan.
            optimizer: Made of `param_groups(..., all_phases=True)`, or of all parameters. Without
                one, only the model changes.
            schedulers: All learning-rate schedulers of the optimizer.
            ddp: The DistributedDataParallel around the model.
            moments: What becomes of the optimizer's state of a parameter that is frozen. "keep": a
                later thaw goes on with it. "drop": a thaw begins anew.

        Returns:
            What was frozen and thawed.

        Raises:
            SpecError, StagingError, PlanError, PluginError: As in `freezekit.plan`.
            FreezeError: The handle is no longer in force, the model is inside a forward or backward
                pass or under `no_sync`, it has other parameters than when it was frozen, or the
                optimizer or the wrapper cannot train what the plan trains. Or ranks disagree.
                Nothing has changed then.

        Warns:
            FreezekitWarning: As `freeze_`.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", device="meta")
            >>> frozen = freeze_(model, "head-only")
            >>> optimizer = torch.optim.AdamW(frozen.param_groups(1e-3, all_phases=True))
            >>> change = frozen.change_("first-n-stages:n=2", optimizer)
            >>> len(change.thawed), change.frozen
            (30, ())
        """
        training = Training(optimizer, _listed(schedulers), ddp, moments)
        with lock_of(self.backbone.model):
            self._check_in_force()
            check_training(self.backbone, training)
            decided = decide(self.backbone, spec, self._registry, thaw=self._thaw)
            warnings = list(decided.warnings)
            if optimizer is None:
                warnings += thaw_warnings(self.backbone.model, decided, "change_()")
            warn(warnings, stacklevel=3)
            changed = change(self.backbone, decided, training)
            self._caches_follow()
            return changed

    def follow(
        self,
        schedule: str | Schedule,
        optimizer: Optimizer,
        schedulers: Sequence[Any] = (),  # Any: as in `change_`
        ddp: DistributedDataParallel | None = None,
        *,
        epochs: float | None = None,
        steps_per_epoch: int | None = None,
        sample: Any = None,  # Any: whatever the model takes
        moments: Moments = "keep",
        state: Mapping[str, Any] | None = None,  # Any: what torch.save holds
    ) -> FollowedSchedule:
        """Follow a schedule: put its first plan in force, and the later ones as training goes on.

        To resume, call it as at first, then load the state dicts of the model, of the optimizer, of
        its schedulers, and of what this returns. The resumed training has the bits of one that was
        not interrupted, if data and random state are the same.

        Args:
            schedule: Text such as "head-only then full at 1ep" or "gradual-unfreeze:every=2ep", or
                a schedule.
            optimizer: As in `change_`.
            schedulers: As in `change_`.
            ddp: As in `change_`.
            epochs: Epochs of the whole training, such as 10, or 1.5 where it ends within one.
                Times in percent need it.
            steps_per_epoch: Optimizer steps of an epoch. Times within an epoch need it.
            sample: A small fixed batch, such as 8 images, as the model takes it. Schedules that
                observe outputs need it.
            moments: As in `change_`.
            state: To resume in another order: the `state_dict()` of what this returned in the
                earlier process. Model, optimizer and schedulers have their states already. Its plan
                is put in force, and not the first one.

        Raises:
            SpecError: The text cannot be read, or names an unknown schedule or strategy.
            ScheduleError: The schedule needs a total that was not given, or a time lies outside of
                the training. Or the state is not of this schedule and this model.
            PlanError, PluginError, StagingError, FreezeError: As `change_`, of the first phase.

        Example:
            >>> import torch
            >>> from freezekit import freeze_
            >>> from freezekit.testing import MODELS
            >>> model = MODELS["residual"]()
            >>> frozen = freeze_(model, "full")
            >>> optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=True))
            >>> run = frozen.follow("head-only then full at 1ep", optimizer, epochs=2)
            >>> for epoch in range(2):
            ...     for _ in range(3):
            ...         model.train()(torch.rand(2, 3, 32, 32)).square().mean().backward()
            ...         optimizer.step()
            ...         optimizer.zero_grad()
            ...         _ = run.step()
            ...     change = run.epoch({"loss": 0.5})
            >>> [(done.step, len(done.change.thawed)) for done in run.transitions]
            [(3, 24)]
        """
        check_lengths(epochs, steps_per_epoch)
        made = self._registry.schedule(schedule) if isinstance(schedule, str) else schedule
        if not isinstance(made, Schedule):
            raise SpecError(
                f"the schedule is {type(made).__name__} {made!r:.80}, expected text such as "
                "'head-only then full at 1ep', or a Schedule"
            )
        training = Training(optimizer, _listed(schedulers), ddp, moments)
        with lock_of(self.backbone.model):
            self._check_in_force()
            check_training(self.backbone, training)
            followed = FollowedSchedule(
                self.backbone,
                made,
                training,
                self._registry,
                progress=Progress(epochs=epochs, steps_per_epoch=steps_per_epoch),
                sample=sample,
                state=state,
                thaw=self._thaw,
                on_change=self._caches_follow,
            )
            if self._followed is not None:  # it goes on where the new one was refused
                self._followed.close()
            self._followed = followed
        return followed

    def state_dict(self) -> dict[str, Any]:  # Any: what torch.save holds
        """Return the plan in force, and the state of the schedule that is followed, if any.

        `load_state_dict` puts it in force again. The weights of the model are not in it.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", device="meta")
            >>> frozen = freeze_(model, "head-only")
            >>> state = frozen.state_dict()
            >>> optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
            >>> _ = frozen.change_("first-n-stages:n=2", optimizer)
            >>> frozen.load_state_dict(state)
            >>> frozen
            Frozen(ResNet: 60 of 62 parameters frozen, 65 modules held in eval)
        """
        followed = None if self._followed is None else self._followed.state_dict()
        return {"plan": self.plan.to_json(), "followed": followed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Put the plan of a state in force, and go on with the schedule that it followed.

        Optimizers are left as they are: load the state of the optimizer too. Under
        DistributedDataParallel, call it before the model is wrapped, or after `follow`.

        Raises:
            ScheduleError: The state follows a schedule that this handle does not follow.
            PlanError: The state is no state of a handle, or is of another model.
            FreezeError: As `change_`.
        """
        with lock_of(self.backbone.model):
            self._check_in_force()
            if not isinstance(state, dict) or {"plan", "followed"} - state.keys():
                raise PlanError(
                    f"the state is {type(state).__name__}, expected what state_dict() of a handle "
                    "returned"
                )
            if state["followed"] is not None:
                if self._followed is None:
                    raise ScheduleError(
                        f"the state follows the schedule {state['followed']['schedule']!r}: call "
                        "follow() with it first, then load the state"
                    )
                self._followed.load_state_dict(state["followed"])
                return
            plan = FreezePlan.from_json(state["plan"])
            check_training(self.backbone, Training())
            change(self.backbone, check_plan(self.backbone, plan), Training())
            self._caches_follow()

    def verify(
        self,
        inputs: Any = None,  # Any: whatever the model takes
        *,
        steps: int = 3,
        loss: LossFunction | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        compiled: bool = False,
    ) -> Verification:
        """Train a copy of the model for a few steps, and check each claim that a part is frozen.

        The model, its gradients and all random state stay as they are. Under a process group of
        several ranks, call it on every rank: the models are compared, as `verify_model` documents.

        Args:
            inputs: The input of the model's forward: a tensor such as images of shape (batch, 3,
                height, width), a tuple of arguments, or a dict of keyword arguments. None stands
                for random input of batch 2.
            steps: Number of training steps. Each starts with `model.train()`.
            loss: A function from the model's output to a scalar tensor. The default is the loss of
                `freezekit bench`.
            optimizer: The optimizer that will train the model. It is copied with its state. The
                default is SGD with momentum and weight decay over `param_groups`.
            compiled: Train the copy through `torch.compile`. Of a lean model, a stock copy is
                trained so too, and must have the same bits.

        Raises:
            CompilationError: The copy cannot be compiled.
            FreezeError: The model is no longer frozen by this handle, the optimizer failed, or
                another rank did not call it within a minute.
            ModelError: The model refuses the input, is on "meta" or cannot be copied, or the loss
                has no gradient.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> frozen = freeze_(load_backbone("torchvision:resnet18"), "first-n-stages:n=1")
            >>> frozen.verify(torch.rand(2, 3, 32, 32)).passed
            True
        """
        from freezekit.verify import verify_frozen

        self._check_in_force()
        found = verify_frozen(
            self.backbone,
            self.plan,
            inputs,
            steps=steps,
            loss=loss,
            optimizer=optimizer,
            compiled=compiled,
        )
        notes = self._about_groups() if optimizer is None else ()
        return replace(found, notes=(*found.notes, *notes))

    def verify_schedule(
        self,
        schedule: str | Schedule,
        inputs: Any = None,  # Any: whatever the model takes
        *,
        epochs: int | None = None,
        steps_per_epoch: int = 2,
        loss: LossFunction | None = None,
    ) -> ScheduleVerification:
        """Train a copy through the phases of a schedule, and check each claim in each phase.

        One optimizer, SGD with momentum and weight decay, goes through all phases. A second copy is
        resumed from its state before and after each change of plan, and must have the same bits.
        Metrics never improve, so that schedules which wait for that go on. Under a process group of
        several ranks, call it on every rank: the copy is wrapped in DistributedDataParallel, and
        ranks are compared after each step. The model itself stays as it is.

        Args:
            schedule: As in `follow`.
            inputs: As in `verify`. The batch is the same in each step.
            epochs: Epochs of the training. None: the fewest that reach all phases, within 100
                steps; 10 if the schedule observes steps. Phases that are not reached are named.
            steps_per_epoch: Optimizer steps of an epoch.
            loss: As in `verify`.

        Raises:
            FreezeError, ModelError: As in `verify`.
            SpecError, ScheduleError, PlanError: As in `follow`.

        Example:
            >>> import torch
            >>> from freezekit import freeze_
            >>> from freezekit.testing import MODELS
            >>> frozen = freeze_(MODELS["residual"](), "full")
            >>> found = frozen.verify_schedule("head-only then full at 1ep")
            >>> found.passed, [(phase.spec, phase.steps) for phase in found.phases]
            (True, [('head-only', 2), ('full', 2)])
        """
        from freezekit.verify.schedule import verify_schedule

        self._check_in_force()
        return verify_schedule(
            self.backbone,
            self._registry.schedule(schedule) if isinstance(schedule, str) else schedule,
            self._registry,
            inputs,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            loss=loss,
            thaw=self._thaw,
        )

    def cache(
        self,
        dataset: Any,  # Any: whatever has samples by index
        batch_size: int,
        *,
        image: int | str | None = None,
        folder: str | Path | None = None,
        limit: str | None = None,
        views: int = 1,
        seed: int = 0,
        workers: int = 0,
        dtype: torch.dtype | None = None,
        data_version: str | None = None,
        call: Callable[[nn.Module, Any], Any] | None = None,
        on_thaw: OnThaw = "refill",
    ) -> CachedDataset:
        """Compute the frozen prefix once for each sample; return the data set with its features.

        A frozen prefix gives the same features for the same image in every epoch. The data set that
        is returned has them in place of the images, and the model takes a batch of them as it takes
        images: it skips the prefix. Images are taken as ever, as in a validation.

        What gives the features is found in the model's own forward, and proved on a batch: loss and
        gradients have the same bits. Batches of `batch_size` then train as without a cache, bit for
        bit on a CPU.

        Args:
            dataset: With `len` and an index, as `torch.utils.data.Dataset`. Its samples are
                tensors, tuples or mappings that the default collate function of PyTorch can stack.
            batch_size: Of the training. The cache is filled in batches of this size, as kernels may
                give other last bits for other sizes.
            image: The index or key of the image in a sample. The default is the first tensor of two
                or more dimensions.
            folder: Where the features are written, in files that are mapped into memory. An
                interrupted fill goes on there, and a later process takes what is whole. The default
                is to keep them in memory.
            limit: The most that the features may take, such as "8GiB". Without it, they may take
                90 % of the memory that is available, or the free space of the disk.
            views: How many random augmentations of each sample are kept. `set_epoch` of what is
                returned chooses among them.
            seed: Of the augmentations.
            workers: Processes that read the data set while the cache is filled.
            dtype: Of the features in the cache: torch.float16, torch.bfloat16 or torch.int8, in
                which blocks of 64 numbers share a scale. The default is that of the model, which is
                exact. `filled` of what is returned says what is lost.
            data_version: A text that changes with the data. The default is a digest of a few
                samples, which does not see a change of the others.
            call: How a batch of the data set is given to the model, where it takes more than the
                image: `lambda model, batch: model(batch["image"], batch["mask"])`.
            on_thaw: What a change of plan does where it moves the boundary. "refill" computes the
                features of the new one at once; where none can be kept, samples have images again.
                "drop" lets samples have images again. A change that freezes more keeps the
                features, and "refill" makes those of the later boundary from them.

        Several processes of one process group fill a cache together: all must call it, each
        computes a share, and each can read all samples.

        Raises:
            CacheError: Nothing comes before all that is trained. The prefix draws random numbers,
                changes its statistics, or depends on other samples of a batch. The data set
                augments at random and `views` is 1, or its images have different shapes. The
                features are larger than `limit` or than what is free, or the folder holds another
                cache, is filled by another process or cannot be written.
            FreezeError: The model is no longer frozen by this handle.

        Example:
            >>> import torch
            >>> from torch.utils.data import DataLoader, TensorDataset
            >>> from freezekit import freeze_
            >>> from freezekit.testing import MODELS
            >>> model = MODELS["residual"]()
            >>> data = TensorDataset(torch.rand(8, 3, 32, 32), torch.arange(8) % 4)
            >>> cached = freeze_(model, "head-only").cache(data, batch_size=4)
            >>> for features, labels in DataLoader(cached, batch_size=4, shuffle=True):
            ...     loss = torch.nn.functional.cross_entropy(model(features), labels)
            >>> features.dim()
            2
        """
        from freezekit.cache.asking import request_of
        from freezekit.cache.autocasting import Autocast
        from freezekit.cache.dataset import CachedDataset

        self._check_in_force()
        model = self.backbone.model
        cached = CachedDataset(
            model,
            request_of(
                dataset=dataset,
                batch_size=batch_size,
                autocast=Autocast.now(next(model.parameters()).device),
                image=image,
                folder=folder,
                limit=limit,
                views=views,
                seed=seed,
                workers=workers,
                data_version=data_version,
                call=call,
                dtype=dtype,
                on_thaw=on_thaw,
            ),
        )
        self._caches.append(ref(cached))
        return cached

    def undo(self) -> None:
        """Restore the flags and modes of before `freeze_`, and remove all that it added.

        Modules that were held take the mode that the last `train()` or `eval()` asked for. Values
        that training changed stay. Gradients that `freeze_` dropped do not come back.

        Raises:
            FreezeError: The model is no longer frozen by this handle.

        Example:
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", device="meta")
            >>> freeze_(model, "head-only").undo()
            >>> all(p.requires_grad for p in model.parameters())
            True
        """
        with lock_of(self.backbone.model):
            self._check_in_force()
            if self._followed is not None:
                self._followed.close()
            for cached in self._live_caches():
                cached.close()
            undo(self.backbone.model)

    def _live_caches(self) -> list[CachedDataset]:
        """Return the caches that somebody still has, in the order in which they were made."""
        return [cached for each in self._caches if (cached := each()) is not None]

    def _caches_follow(self) -> None:
        for cached in self._live_caches():
            cached.follow_plan()

    def _later_plans(
        self, all_phases: bool | str | Sequence[str | Strategy | FreezePlan]
    ) -> list[FreezePlan]:
        """Return the plans of the phases that a user named, so far as they can be known."""
        given = () if isinstance(all_phases, bool) else all_phases
        if isinstance(given, str):
            given = self._registry.schedule(given).plans()
        return [decide(self.backbone, each, self._registry, thaw=self._thaw) for each in given]

    def _about_groups(self) -> tuple[str, ...]:
        """Return a warning where parameters came after `param_groups` was called."""
        handed = self._handed_out
        lacking = [] if handed is None else handed.lack(self.backbone.model)
        return (warning_of_groups(lacking),) if lacking else ()

    def _look(self) -> Live | None:
        """Return what is true of the model now; None where this handle is no longer in force."""
        with lock_of(self.backbone.model):
            return look(self.backbone, self.plan) if self._is_in_force() else None

    def _is_in_force(self) -> bool:
        return self.backbone.model.__dict__.get(RECORD) is self._record

    def _check_in_force(self) -> None:
        if not self._is_in_force():
            raise self._not_in_force()

    def _not_in_force(self) -> FreezeError:
        return FreezeError(
            f"this handle is no longer in force: {type(self.backbone.model).__name__} was "
            "undone or frozen again; use the handle that the last freeze_() returned"
        )


def _listed(schedulers: Sequence[Any]) -> tuple[Any, ...]:  # Any: as in `change_`
    """Return the schedulers.

    Raises:
        FreezeError: It is one scheduler, or None.
    """
    try:
        return tuple(schedulers)
    except TypeError:
        raise FreezeError(
            f"schedulers is {type(schedulers).__name__}, expected a list, as in "
            "schedulers=[scheduler]"
        ) from None
