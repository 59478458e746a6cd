"""A Lightning training with the callback has the bits of a plain loop, resumed at any step too."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    Callback,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, default_collate

from freezekit import (
    CacheError,
    FreezeError,
    FreezekitWarning,
    ScheduleError,
    StagingError,
    UnknownStrategyError,
)
from freezekit.integrations import pytorch_lightning as other_package
from freezekit.integrations.lightning import FreezeCallback
from freezekit.integrations.lightning_checks import model_in
from tests.integrations.lightning_training import (
    BATCHES,
    IGNORED,
    IMAGES,
    PICKED,
    SIZE,
    Lit,
    Saves,
    equal,
    loader,
    network,
    plain,
    sgd,
    steps,
    trainer,
)
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in IGNORED]
AFTER_THE_LAST_BATCH = "04 batch.ckpt", "08 batch.ckpt"
TIMELINE = "head-only then first-n-stages:n=2 at 3step then full at 6step"


def fit(callback: FreezeCallback, lit: Lit | None = None, **options: Any) -> Lit:
    lit = lit or Lit()
    validates = options.pop("validates", False)
    given = trainer(callback, *options.pop("callbacks", ()), **options)
    given.fit(lit, loader(), loader() if validates else None)
    return lit


def test_a_schedule_has_the_bits_of_a_plain_loop_with_validations_between() -> None:
    model, _, losses = plain("head-only", TIMELINE, validates=True)
    callback = FreezeCallback(TIMELINE)
    lit = fit(callback, validates=True, val_check_interval=2)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [3, 6]
    assert lit.losses == losses
    assert equal(lit.model, model)
    assert all(module.training for module in lit.model.modules())
    assert not callback.frozen.plan.frozen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "schedule", "options"),
    [
        ("discriminative-lr:decay=0.5,freeze_below=0.1", None, {"scheduler": steps}),
        ("first-n-stages:n=2", None, {"lean": True, "optimizer": torch.optim.AdamW}),
        ("head-only", "head-only then discriminative-lr:decay=0.5 at 5step", {"scheduler": steps}),
        ("head-only", "head-only then layer-decay:decay=0.5 at 1ep", {"lean": True}),
        (
            "head-only",
            "head-only then first-n-stages:n=2 at 2step then full at 50%",
            {"accumulate": 3},
        ),
        ("full", "auto-rgn:batches=2", {"clip": 0.5}),
        ("full", "freeze-out", {"scheduler": steps}),
        ("head-only", "on-plateau:metric=loss,patience=1", {}),
    ],
)
def test_the_bits_are_those_of_a_plain_loop(
    spec: str, schedule: str | None, options: dict[str, Any]
) -> None:
    model, frozen, losses = plain(spec, schedule, **options)
    callback = FreezeCallback(schedule or spec, lean=options.get("lean", False))
    lit = Lit(options.get("optimizer", sgd), options.get("scheduler"))
    fit(
        callback,
        lit,
        accumulate_grad_batches=options.get("accumulate", 1),
        gradient_clip_val=options.get("clip"),
    )
    assert lit.losses == losses
    assert equal(lit.model, model)
    assert callback.frozen.plan == frozen.plan
    assert callback.frozen.lean == frozen.lean


@pytest.mark.slow
def test_groups_of_the_handle_and_a_rate_of_the_callback_give_the_same() -> None:
    text = "head-only then discriminative-lr:decay=0.5 at 1ep"
    trained = []
    for way in ("usual", "groups", "rate"):
        callback = FreezeCallback(text, lr=0.05 if way == "rate" else None)

        def groups(callback: FreezeCallback = callback) -> Any:
            return callback.frozen.param_groups(0.05, 0.01, all_phases=text)

        def optimizer(given: Any, way: str = way) -> torch.optim.Optimizer:
            made = torch.optim.SGD(given, lr=0.7 if way == "rate" else 0.05, momentum=0.9)
            for group in made.param_groups:
                group["weight_decay"] = 0.01
            return made

        trained.append(fit(callback, Lit(optimizer, groups=groups if way == "groups" else None)))
    first, *others = trained
    assert all(equal(first.model, other.model) for other in others)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "options"),
    [
        (TIMELINE, {}),
        exhaustive(("auto-rgn:batches=2,freeze_below=0.2", {})),
        exhaustive(("on-plateau:metric=val_loss,patience=1,min_delta=1.0", {})),
        (
            "full then first-n-stages:n=2 at 1step then full at 4step",
            {"accumulate_grad_batches": 3},
        ),
    ],
)
def test_a_training_resumes_at_any_step(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    def begin(
        seed: int, *callbacks: Any, ckpt_path: str | None = None
    ) -> tuple[Lit, FreezeCallback]:
        lit, callback = Lit(torch.optim.AdamW, steps, seed=seed), FreezeCallback(text)
        given = trainer(callback, *callbacks, enable_checkpointing=bool(callbacks), **options)
        given.fit(lit, loader(), loader(), ckpt_path=ckpt_path)
        return lit, callback

    whole, followed = begin(0, Saves(tmp_path))
    assert followed.run is not None
    assert followed.run.transitions
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert len(paths) > BATCHES
    for path in paths if text == TIMELINE else paths[1::3] + paths[3:6:2]:
        if "val_loss" in text and path.name in AFTER_THE_LAST_BATCH:
            with pytest.raises(
                ScheduleError, match="before its validation, which Lightning leaves"
            ):
                begin(7, ckpt_path=str(path))
            continue
        again, resumed = begin(7, ckpt_path=str(path))
        assert again.losses == whole.losses[len(whole.losses) - len(again.losses) :], path.name
        assert equal(again.model, whole.model), path.name
        assert resumed.frozen.plan == followed.frozen.plan
        if again.losses:  # otherwise nothing was done
            assert resumed.state_dict() == followed.state_dict(), path.name


@pytest.mark.slow
def test_a_resume_shows_the_plan_of_the_checkpoint(tmp_path: Path) -> None:
    """Summary and rates are those of the phase in force, and groups have names."""

    class Seen(ModelSummary):
        trained = 0

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.trained = self._summary(trainer, pl_module).trainable_parameters

    text = "head-only then discriminative-lr:decay=0.5 at 1ep"
    saves = ModelCheckpoint(tmp_path / "saved", "{step}", save_top_k=-1, every_n_epochs=1)
    found = []
    for ckpt_path in (None, str(tmp_path / "saved" / "step=4.ckpt")):
        seen, rates = Seen(), LearningRateMonitor("step")
        callbacks = [FreezeCallback(text), seen, rates, *([] if ckpt_path else [saves])]
        given = trainer(
            *callbacks, logger=CSVLogger(tmp_path), log_every_n_steps=1, enable_checkpointing=True
        )
        given.fit(Lit(), loader(), ckpt_path=ckpt_path)
        found.append((seen.trained, rates.lrs))
    (at_first, first_rates), (later, later_rates) = found
    model = network()
    assert at_first == sum(p.numel() for p in model.get_classifier().parameters())
    assert later == sum(p.numel() for p in model.parameters())
    assert list(first_rates) == [
        f"lr-SGD/{name}" for name in ("stem", "layer1", "layer2", "layer3", "layer4", "head")
    ]
    assert first_rates["lr-SGD/stem"][4:] == later_rates["lr-SGD/stem"] == [0.05 / 32] * 8
    assert first_rates["lr-SGD/head"] == [0.05] * 12


def test_percents_are_of_the_steps_of_the_training() -> None:
    callback = FreezeCallback("head-only then full at 50%")
    fit(callback, max_epochs=5, max_steps=2)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [1]


@pytest.mark.slow
def test_a_cache_gives_the_same_bits() -> None:
    class Direct(Lit):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch

    text = "first-n-stages:n=3 then first-n-stages:n=1 at 1ep"
    trained = []
    for cache in (None, True, {"dtype": torch.float32}):
        lit, callback = Direct(torch.optim.AdamW), FreezeCallback(text, cache=cache)
        given = trainer(callback)
        torch.manual_seed(5)
        given.fit(lit, loader(shuffle=True), loader())
        given.validate(lit, loader(), verbose=False)
        trained.append(lit)
    first, *others = trained
    assert all(other.losses == first.losses for other in others)
    assert all(equal(first.model, other.model) for other in others)


class Unmoved(Lit):
    """Takes the batches of its data loader, as dicts."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return tuple(batch.values())


def as_dict(samples: list[Any]) -> Any:
    images, labels = default_collate(samples)
    return {"image": images, "label": labels}


def normalising(samples: list[Any]) -> Any:
    images, labels = default_collate(samples)
    return {"image": (images - 0.5) / 0.25, "label": labels}


def test_a_collate_function_may_rename_images_and_not_change_them() -> None:
    def train(collate: Any, *, cache: bool) -> Lit:
        lit = Unmoved()
        given = trainer(FreezeCallback("first-n-stages:n=2", cache=cache), max_epochs=1)
        given.fit(lit, DataLoader(PICKED, batch_size=SIZE, collate_fn=collate))
        return lit

    with pytest.raises(CacheError, match="the collate function normalising changes images at 0"):
        train(normalising, cache=True)
    assert equal(train(as_dict, cache=True).model, train(as_dict, cache=False).model)


class Thaws(Callback):
    """Somebody's callback that sets flags while it trains."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            pl_module.model.layer1.requires_grad_(True)


def test_flags_that_change_in_a_training_are_told_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FreezeCallback("head-only"), callbacks=[Thaws()])
    told = [str(each.message) for each in caught if each.category is FreezekitWarning]
    assert len(told) == 1
    assert "6 parameter(s) that the plan freezes are trained" in told[0]


def test_what_cannot_be_driven_is_refused() -> None:
    with pytest.raises(CacheError, match="no option 'view', did you mean 'views'"):
        FreezeCallback("head-only", cache={"view": 3})  # type: ignore[typeddict-unknown-key]  # so
    with pytest.raises(ScheduleError, match="'plasticity' observes the outputs of stages"):
        FreezeCallback("plasticity")
    with pytest.raises(UnknownStrategyError, match="did you mean 'head-only'"):
        FreezeCallback("head-onl")
    with pytest.raises(FreezeError, match="nothing is frozen yet"):
        _ = FreezeCallback("head-only").frozen
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        trainer(FreezeCallback("head-only"), FreezeCallback("full"))
    given = trainer(FreezeCallback("head-only"))
    given.callbacks.append(FreezeCallback("full"))
    with pytest.raises(FreezeError, match="FreezeCallback was given twice"):
        given.fit(Lit(), loader())
    with pytest.raises(FreezeError, match="BackboneFinetuning freezes and thaws too"):
        fit(FreezeCallback("head-only"), callbacks=[BackboneFinetuning()])
    with pytest.raises(FreezeError, match="has no such module; it has 'model' \\(ResNet\\)"):
        fit(FreezeCallback("head-only", module="net"))
    lit = Lit()
    lit.automatic_optimization = False
    with pytest.raises(FreezeError, match=r"run = callback\.frozen\.follow"):
        fit(FreezeCallback(TIMELINE), lit)
    with pytest.raises(FreezeError, match="a learning-rate scheduler is attached"):
        fit(FreezeCallback("head-only", lr=0.1), Lit(scheduler=steps))
    lit = Lit()
    lit.groups = lit.model.get_classifier().parameters
    with pytest.raises(
        FreezeError,
        match=r"does not hold 21 parameter.* Give configure_optimizers self\.parameters",
    ) as caught:
        fit(FreezeCallback(TIMELINE), lit)
    assert "param_groups" not in str(caught.value)
    lit = Lit()
    lit.groups = lit.model.get_classifier().parameters
    with pytest.warns(FreezekitWarning, match=r"no optimizer holds .* They will never move"):
        fit(FreezeCallback("first-n-stages:n=2"), lit, max_epochs=1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": "a"}, "lr is 'a', expected a finite number of at least 0"),
        ({"lr": -1.0}, "lr is -1.0, expected"),
        (
            {"cache": "yes"},
            "cache is 'yes', expected True, or a dict with some of the options call",
        ),
        (
            {"cache": {"foldr": "x"}},
            "a cache has no option 'foldr', did you mean 'folder'",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_refused_at_once(
    options: dict[str, Any], text: str
) -> None:
    with pytest.raises((FreezeError, CacheError), match=text):
        FreezeCallback("head-only", **options)


def test_an_unknown_name_has_one_list_and_one_advice() -> None:
    with pytest.raises(UnknownStrategyError) as caught:
        FreezeCallback("hed-only")
    text = str(caught.value)
    assert text.startswith("unknown strategy or schedule 'hed-only', did you mean 'head-only'? The")
    assert text.count("did you mean") == text.count("known strategies") == 1
    assert "lp-ft" in text
    with pytest.raises(UnknownStrategyError, match="did you mean 'on-plateau'"):
        FreezeCallback("on-platau:metric=loss")


def test_lengths_that_are_not_known_are_told_in_words_of_the_trainer() -> None:
    half = "head-only then full at 50%"
    with pytest.raises(ScheduleError, match=r": give the Trainer max_epochs= or max_steps=$"):
        fit(FreezeCallback(half), max_epochs=-1)

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(PICKED)

    lit = Lit()
    with pytest.raises(ScheduleError, match=r": give a data loader with a length$"):
        trainer(FreezeCallback("head-only then full at 0.5ep")).fit(
            lit, torch.utils.data.DataLoader(Endless(), 4)
        )


@pytest.mark.parametrize(
    ("times", "steps"), [(("1ep", "2ep"), [1, 3]), (("2step", "5step"), [2, 5])]
)
def test_steps_of_an_epoch_that_change_are_not_counted_on(
    times: tuple[str, str], steps: list[int]
) -> None:
    """Whole epochs and steps are as ever; no warning asks for another `steps_per_epoch`."""
    changes = [GradientAccumulationScheduler({0: 4, 1: 2, 2: 1})]
    text = "head-only then first-n-stages:n=2 at {} then full at {}"
    callback = FreezeCallback(text.format(*times))
    fit(callback, callbacks=changes)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == steps
    with pytest.raises(
        ScheduleError, match=r"GradientAccumulationScheduler changes it .* such as 500s"
    ):
        fit(FreezeCallback("head-only then full at 50%"), callbacks=changes)


def test_a_metric_of_a_validation_that_has_not_come_is_told() -> None:
    text = "on-plateau:metric=val_loss"
    with pytest.raises(ScheduleError, match=r"check_val_every_n_epoch=2\): log the metric in the"):
        fit(FreezeCallback(text), validates=True, check_val_every_n_epoch=2)


def test_a_metric_of_the_last_validation_counts_in_each_epoch() -> None:
    class Logs(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if not self.trainer.current_epoch:
                self.log("val_loss", 9.0, on_epoch=True, on_step=False)
            return super().training_step(batch, batch_idx)

    callback = FreezeCallback("on-plateau:metric=val_loss,patience=1")
    fit(callback, Logs(), validates=True, check_val_every_n_epoch=2)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [3 * BATCHES]


def test_features_that_the_model_did_not_get_are_named() -> None:
    class Parts(Lit):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.model.forward_head(self.model.forward_features(images))

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch

    with pytest.raises(RuntimeError) as caught:
        fit(FreezeCallback("head-only", cache=True), Parts())
    assert "cache= replaced the images" in caught.value.__notes__[0]


def test_one_callback_serves_several_models_in_turn() -> None:
    callback = FreezeCallback("head-only then first-n-stages:n=2 at 1ep")
    first, second = fit(callback, max_epochs=2), fit(callback, Lit(seed=1), max_epochs=2)
    assert callback.frozen.backbone.model is second.model
    for lit in (first, second):
        assert not any(p.requires_grad for p in lit.model.layer1.parameters())
        assert not lit.model.train().layer1.training


def test_the_other_package_has_the_same() -> None:
    class Other(pytorch_lightning.LightningModule):
        training_step, forward = Lit.training_step, Lit.forward
        on_before_batch_transfer = Lit.on_before_batch_transfer

        def __init__(self) -> None:
            super().__init__()
            self.model, self.losses = network(), []

        def configure_optimizers(self) -> Any:
            return sgd(self.parameters())

    lit, callback = Other(), other_package.FreezeCallback(TIMELINE)
    given = trainer(callback, of=pytorch_lightning.Trainer)
    given.fit(lit, loader())
    expected = fit(FreezeCallback(TIMELINE))
    assert lit.losses == expected.losses
    assert equal(lit.model, expected.model)


def test_a_second_fit_begins_anew_and_a_test_run_stays_in_the_first_phase() -> None:
    callback = FreezeCallback("head-only then full at 1ep", module="")
    lit = fit(callback, max_epochs=2)
    assert not callback.frozen.plan.frozen
    assert set(callback.frozen.backbone.parameters) == {n for n, _ in lit.named_parameters()}
    fit(callback, lit, max_epochs=2)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [BATCHES]
    fit(callback, Lit(), fast_dev_run=True)
    assert callback.run is None
    assert callback.frozen.plan.frozen


@pytest.mark.filterwarnings("ignore:the running_.* of a BatchNorm2d that freeze_")
@pytest.mark.filterwarnings("ignore:The `StochasticWeightAveraging`")
def test_averages_of_weights_leave_all_that_a_frozen_model_uses() -> None:
    lit = Lit()
    lit(IMAGES)  # statistics that a reset would change
    before = {name: value.clone() for name, value in lit.model.state_dict().items()}
    averages = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    fit(FreezeCallback("head-only"), lit, callbacks=[averages])
    moved = {n for n, v in lit.model.state_dict().items() if not torch.equal(v, before[n])}
    assert {n for n in moved if not n.endswith("num_batches_tracked")} == {"fc.weight", "fc.bias"}


def test_a_checkpoint_of_another_plan_is_told(tmp_path: Path) -> None:
    given = trainer(FreezeCallback("head-only"), max_epochs=1)
    given.fit(Lit(), loader())
    path = tmp_path / "head.ckpt"
    given.save_checkpoint(path)
    callback = FreezeCallback("first-n-stages:n=2")
    with pytest.warns(FreezekitWarning, match=r"another plan than that of FreezeCallback\('first"):
        trainer(callback).fit(Lit(), loader(), ckpt_path=path)
    assert callback.state_dict()["frozen"]["plan"] == callback.frozen.plan.to_json()


def test_what_was_done_between_setup_and_the_training_is_told() -> None:
    class Thaws(Lit):
        def setup(self, stage: str) -> None:
            self.model.conv1.requires_grad_(True)

    with pytest.warns(FreezekitWarning, match="that the plan freezes are trained: 'conv1"):
        fit(FreezeCallback("head-only"), Thaws(), max_epochs=1)


@pytest.mark.parametrize(
    ("path", "found"),
    [(None, "Both"), ("", "Both"), ("model", "ResNet"), ("model.layer1", "Sequential")],
)
def test_the_model_is_found_in_the_module(path: str | None, found: str) -> None:
    class Both(Lit):
        def __init__(self) -> None:
            super().__init__()
            self.projection = torch.nn.Linear(3, 3)

    assert type(model_in(Both(), path)).__name__ == found
    if path is None:
        assert type(model_in(Lit(), path)).__name__ == "ResNet"


def test_a_module_that_cannot_be_staged_names_its_children() -> None:
    class Both(Lit):
        forward = None

        def __init__(self) -> None:
            super().__init__()
            self.projection = torch.nn.Linear(3, 3)

    with pytest.raises(StagingError, match=r"it has 'model' \(ResNet\), 'projection' \("):
        fit(FreezeCallback("head-only"), Both())


def test_a_version_that_was_not_tested_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning

    monkeypatch.setattr(lightning, "__version__", "3.1.0")
    with pytest.warns(FreezekitWarning, match=r"lightning 3\.1\.0 is installed, and .* 2\.4"):
        fit(FreezeCallback("head-only"), max_epochs=1)
