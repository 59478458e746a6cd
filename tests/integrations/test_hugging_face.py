"""A training with Hugging Face's Trainer has the bits of a plain loop, resumed at any step too."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from transformers import Trainer, TrainerCallback

from freezekit import (
    FreezeError,
    FreezekitWarning,
    ScheduleError,
    UnknownStrategyError,
    freeze_,
)
from freezekit.integrations import hugging_face_checks
from freezekit.integrations.hugging_face import FreezeCallback, optimizers
from tests.integrations.hugging_face_training import (
    BATCHES,
    EPOCHS,
    IMAGES,
    LABELS,
    InOrder,
    Pictures,
    arguments,
    equal,
    fit,
    network,
    plain,
    vit,
)
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path

TIMELINE = "head-only then first-n-stages:n=2 at 3step then full at 2ep"
WITH_RATES = "head-only then discriminative-lr:decay=0.5 at 5step"
PLATEAU = "on-plateau:metric=eval_loss,patience=1,min_delta=1.0"


def saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def test_a_schedule_has_the_bits_of_a_plain_loop_with_evaluations_between(tmp_path: Path) -> None:
    expected, _ = plain("head-only", TIMELINE, validates=True)
    callback = FreezeCallback(TIMELINE)
    model, _ = fit(callback, tmp_path, eval_strategy="steps", eval_steps=2)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [3, 2 * BATCHES]
    assert callback.run.progress.epoch == EPOCHS
    assert equal(model, expected)
    assert not callback.frozen.plan.frozen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "schedule", "options"),
    [
        ("first-n-stages:n=2", None, {"has_optimizer": False}),
        ("first-n-stages:n=2", None, {"lean": True}),
        ("discriminative-lr:decay=0.5,freeze_below=0.1", None, {"build": vit}),
        ("head-only", WITH_RATES, {"accumulate": 3, "build": vit}),
        ("head-only", "head-only then layer-decay:decay=0.5 at 1ep", {"lean": True, "build": vit}),
        ("full", "freeze-out", {}),
        ("head-only", PLATEAU, {"validates": True}),
    ],
)
def test_the_bits_are_those_of_a_plain_loop(
    spec: str, schedule: str | None, options: dict[str, Any], tmp_path: Path
) -> None:
    build = options.pop("build", network)
    given = {key: value for key, value in options.items() if key != "has_optimizer"}
    expected, frozen = plain(spec, schedule, model=build(), **given)
    callback = FreezeCallback(schedule or spec, lean=options.get("lean", False))
    model, _ = fit(
        callback,
        tmp_path,
        model=build(),
        has_optimizer=options.get("has_optimizer", True),
        gradient_accumulation_steps=options.get("accumulate", 1),
        eval_strategy="epoch" if "validates" in options else "no",
    )
    assert equal(model, expected)
    assert callback.frozen.plan == frozen.plan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "options"),
    [
        exhaustive((TIMELINE, {})),
        exhaustive(("auto-rgn:batches=2,freeze_below=0.2", {})),
        (PLATEAU, {"eval_strategy": "steps", "eval_steps": 2}),
        (WITH_RATES, {"gradient_accumulation_steps": 3}),
    ],
)
def test_a_training_resumes_at_any_step(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    def begin(seed: int, folder: str, **more: Any) -> tuple[Any, FreezeCallback]:
        callback = FreezeCallback(text)
        made = network(seed)
        model, _ = fit(callback, tmp_path / folder, model=made, **options, **more)
        return model, callback

    keeps = {"save_strategy": "steps", "save_steps": 1}
    whole, followed = begin(0, "whole", **keeps)
    assert followed.run is not None
    assert followed.run.transitions
    paths = saved(tmp_path / "whole")
    assert len(paths) == followed.run.progress.step
    for path in paths[2:9:2] if text == TIMELINE else paths[1::3]:
        resume = {"restore_callback_states_from_checkpoint": True} if text == WITH_RATES else {}
        again, resumed = begin(7, "again", resume=path, **keeps, **resume)
        assert equal(again, whole), path.name
        assert resumed.run is not None
        assert resumed.run.state_dict() == followed.run.state_dict(), path.name


@pytest.mark.parametrize(
    ("options", "step"), [({"max_steps": 2}, 1), ({"num_train_epochs": 1.5}, 3)]
)
def test_percents_are_of_the_steps_of_the_training(
    options: dict[str, Any], step: int, tmp_path: Path
) -> None:
    callback = FreezeCallback("head-only then full at 50%")
    fit(callback, tmp_path, **options)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [step]


@pytest.mark.slow
def test_an_epoch_without_its_evaluation_is_refused_at_a_resume(tmp_path: Path) -> None:
    keeps = {"save_strategy": "steps", "save_steps": BATCHES, "eval_strategy": "epoch"}
    fit(FreezeCallback(PLATEAU), tmp_path, **keeps)
    with pytest.raises(ScheduleError, match="before its validation, which Trainer leaves"):
        fit(FreezeCallback(PLATEAU), tmp_path, resume=saved(tmp_path)[0], **keeps)
    with pytest.raises(ScheduleError, match="needs the metric 'eval_loss'"):
        fit(FreezeCallback(PLATEAU), tmp_path)


@pytest.mark.slow
def test_the_best_model_is_loaded_and_epochs_are_resumed(tmp_path: Path) -> None:
    keeps = {
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
    }
    callback = FreezeCallback(PLATEAU)
    model, trainer = fit(callback, tmp_path, **keeps)
    best = trainer.state.best_model_checkpoint
    assert equal(model, type(model).from_pretrained(best))
    for path in saved(tmp_path)[:2]:
        again, _ = fit(
            FreezeCallback(PLATEAU), tmp_path / "b", model=network(7), resume=path, **keeps
        )
        assert equal(again, model)


@pytest.mark.slow
def test_models_that_transformers_saves_under_other_names(tmp_path: Path) -> None:
    """What the guide says of Trainer's own resume of these, and its way around."""
    keeps = {"save_strategy": "epoch"}
    whole, _ = fit(FreezeCallback(TIMELINE), tmp_path / "a", model=vit(), **keeps)
    path = saved(tmp_path / "a")[0]
    again, _ = fit(FreezeCallback(TIMELINE), tmp_path / "b", model=vit(7), resume=path, **keeps)
    assert not equal(again, whole)
    loaded = type(again).from_pretrained(path)
    fit(FreezeCallback(TIMELINE), tmp_path / "c", model=loaded, resume=path, **keeps)
    assert equal(loaded, whole)


@pytest.mark.parametrize("lean", [False, True])
def test_a_frozen_model_is_saved_and_loaded(lean: bool, tmp_path: Path) -> None:
    model = vit()
    freeze_(model, "first-n-stages:n=2", lean=lean)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert equal(model, loaded)
    assert all(p.requires_grad for p in loaded.parameters())
    assert freeze_(loaded, "first-n-stages:n=2", lean=lean).verify().passed


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize(
    ("build", "text", "bf16"),
    [
        (network, "first-n-stages:n=3 then first-n-stages:n=1 at 1ep", False),
        (vit, "first-n-stages:n=2", True),
    ],
)
def test_a_cache_gives_the_same_bits(build: Any, text: str, bf16: bool, tmp_path: Path) -> None:
    models = []
    for is_cached in (False, True):
        callback = FreezeCallback(text)
        data = callback.features_of(Pictures()) if is_cached else None
        model, trainer = fit(callback, tmp_path, model=build(), data=data, of=Trainer, bf16=bf16)
        assert trainer.evaluate()["eval_loss"] > 0
        if data is not None:
            assert data[0]["pixel_values"].dim() == 1
            assert "features of" in repr(data)
        models.append(model)
    assert equal(*models)


@pytest.mark.slow
def test_checkpointed_activations_have_the_same_gradients(tmp_path: Path) -> None:
    """transformers checkpoints without reentry, where layers behind what is frozen train."""
    models = []
    for options in ({}, {"activation_checkpointing": True}):
        callback = FreezeCallback("first-n-stages:n=2")
        model, _ = fit(callback, tmp_path, model=vit(), has_optimizer=False, **options)
        models.append(model)
    assert equal(*models)
    reentrant = {"use_reentrant": True}
    with pytest.raises(FreezeError, match="'use_reentrant': False"):
        fit(
            FreezeCallback("first-n-stages:n=2"),
            tmp_path,
            model=vit(),
            activation_checkpointing=True,
            activation_checkpointing_kwargs=reentrant,
        )


def test_reentrant_checkpoints_behind_a_frozen_prefix_have_no_gradients() -> None:
    """Why it is refused."""
    model = vit()
    freeze_(model, "first-n-stages:n=1")
    model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad"):
        model.train()(pixel_values=IMAGES[:2], labels=LABELS[:2]).loss.backward()
    assert all(p.grad is None for p in model.vit.layers[1].parameters())


def test_what_cannot_be_driven_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(tmp_path)
    with pytest.raises(UnknownStrategyError, match="did you mean 'head-only'"):
        FreezeCallback("head-onl")
    late = FreezeCallback("head-only")
    with pytest.raises(FreezeError, match="nothing is frozen yet"):
        _ = late.frozen
    trainer = Trainer(network(), args, train_dataset=Pictures())
    trainer.add_callback(late)
    with pytest.raises(FreezeError, match="not where add_callback"):
        trainer.train()
    with pytest.raises(FreezeError, match=r"optimizers=optimizers\(model, args\)"):
        Trainer(network(), args, callbacks=[FreezeCallback(TIMELINE)])
    with pytest.raises(FreezeError, match=r"create_optimizer\(\) of your Trainer"):
        InOrder(network(), args, callbacks=[FreezeCallback(TIMELINE)])
    with pytest.raises(FreezeError, match="a plan with multipliers of learning rates needs"):
        Trainer(network(), args, callbacks=[FreezeCallback("layer-decay:decay=0.5")])
    with pytest.raises(FreezeError, match="no such module; it has 'timm_model'"):
        Trainer(network(), args, callbacks=[FreezeCallback("head-only", module="net")])
    twice = [FreezeCallback("head-only"), FreezeCallback("first-n-stages:n=1")]
    with pytest.warns(FreezekitWarning, match="thaws 30 parameter"):
        trainer = Trainer(network(), args, train_dataset=Pictures(), callbacks=twice)
    with pytest.raises(FreezeError, match="by a second callback"):
        trainer.train()
    trainer = Trainer(
        None,
        args,
        train_dataset=Pictures(),
        model_init=lambda: network(),
        callbacks=[FreezeCallback("head-only")],
    )
    with pytest.raises(FreezeError, match="return a frozen model from model_init"):
        trainer.train()
    own = torch.optim.AdamW, {"params": []}  # as GaLore's, whose package is not installed
    monkeypatch.setattr(Trainer, "get_optimizer_cls_and_kwargs", lambda *_: own)
    with pytest.raises(FreezeError, match="makes its own parameter groups"):
        optimizers(network(), args)


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_sharded_models_are_refused(
    kind: DistributedType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is there on a CPU in one process: the state alone says what would be."""
    Trainer(network(), arguments(tmp_path))
    monkeypatch.setitem(PartialState._shared_state, "distributed_type", kind)
    callback = FreezeCallback("head-only")
    with pytest.raises(FreezeError, match=f"trains with {kind.name}, which takes parameters"):
        callback.on_init_end(None, None, None, model=network(), optimizer=None, lr_scheduler=None)


def test_what_is_odd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    args = arguments(tmp_path, max_steps=1)
    callback = FreezeCallback("head-only")
    trainer = Trainer(model, args, train_dataset=Pictures(), callbacks=[callback])
    model.timm_model.layer1.requires_grad_(True)
    with pytest.warns(FreezekitWarning, match="that the plan freezes are trained"):
        trainer.train()
    model = network()
    optimizer = torch.optim.SGD(model.timm_model.layer1.parameters())
    callback = FreezeCallback("head-only")
    trainer = Trainer(
        model, args, train_dataset=Pictures(), callbacks=[callback], optimizers=(optimizer, None)
    )
    with pytest.warns(FreezekitWarning, match=r"no optimizer holds 2 parameter"):
        trainer.train()
    monkeypatch.setattr(hugging_face_checks.transformers, "__version__", "6.0.0")
    with pytest.warns(FreezekitWarning, match=r"transformers 6\.0\.0 is installed, and .* 5\.0 to"):
        Trainer(network(), args, callbacks=[FreezeCallback("head-only")])


class Thaws(TrainerCallback):
    """Somebody's callback that sets flags while it trains."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.epoch == self.epoch:
            given["model"].timm_model.layer1.requires_grad_(True)


@pytest.mark.parametrize("epoch", [0, 1])
def test_flags_that_change_in_a_training_are_told_once(epoch: int, tmp_path: Path) -> None:
    callback = FreezeCallback("head-only")
    trainer = Trainer(
        network(),
        arguments(tmp_path),
        train_dataset=Pictures(),
        callbacks=[callback, Thaws(epoch)],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    told = [str(each.message) for each in caught if each.category is FreezekitWarning]
    assert len(told) == 1
    assert "6 parameter(s) that the plan freezes are trained" in told[0]


@pytest.mark.slow
def test_a_resume_under_another_spec_is_told(tmp_path: Path) -> None:
    keeps = {"save_strategy": "steps", "save_steps": BATCHES}
    with_rates = "discriminative-lr:decay=0.5"
    paths = {}
    for text in ("first-n-stages:n=1", TIMELINE, with_rates):
        folder = tmp_path / str(len(paths))
        fit(FreezeCallback(text), folder, **keeps)
        paths[text] = saved(folder)[0]

    def resume(text: str, path: Path, **options: Any) -> None:
        fit(FreezeCallback(text), tmp_path / "again", resume=path, **options)

    with pytest.warns(FreezekitWarning, match=r"under another plan than that of 'head-only'"):
        resume("head-only", paths["first-n-stages:n=1"])
    with pytest.raises(FreezeError, match=r"was written under 'first-n.*this training is under 'd"):
        resume(with_rates, paths["first-n-stages:n=1"])
    with pytest.raises(
        FreezeError, match=r"was written under 'head-only then .* under 'head-only'"
    ):
        resume("head-only", paths[TIMELINE])
    with pytest.raises(ScheduleError, match="the state is of the schedule 'head-only then first"):
        resume("head-only then full at 1ep", paths[TIMELINE])
    with warnings.catch_warnings():
        warnings.simplefilter("error", FreezekitWarning)
        resume("first-n-stages:n=1", paths["first-n-stages:n=1"])


def test_a_second_training_begins_anew(tmp_path: Path) -> None:
    callback = FreezeCallback("head-only then full at 1ep", module="timm_model")
    _, trainer = fit(callback, tmp_path, num_train_epochs=2)
    assert not callback.frozen.plan.frozen
    assert next(iter(callback.frozen.backbone.parameters)) == "conv1.0.weight"
    for trains in (trainer.train, lambda: fit(callback, tmp_path, model=trainer.model)):
        trains()
        assert callback.run is not None
        assert [done.step for done in callback.run.transitions] == [BATCHES]


@pytest.mark.slow
def test_groups_of_the_handle_are_taken(tmp_path: Path) -> None:
    model = network()
    frozen = freeze_(model, "head-only")
    groups = frozen.param_groups(0.01, 0.05, all_phases=WITH_RATES)
    trainer = InOrder(
        model,
        arguments(tmp_path),
        train_dataset=Pictures(),
        callbacks=[FreezeCallback(WITH_RATES)],
        optimizers=(torch.optim.AdamW(groups), None),
    )
    names = [group["name"] for group in trainer.optimizer.param_groups]
    trainer.train()
    assert [group["name"] for group in trainer.optimizer.param_groups] == names
    assert names[:2] == ["stem", "stem, no decay"]


def test_the_optimizer_is_that_of_trainer(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    ours, _ = optimizers(network(), args)
    theirs = Trainer(network(), args).create_optimizer()
    assert type(ours) is type(theirs)
    for one, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert {k: v for k, v in one.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }
        for mine, its in zip(one["params"], other["params"], strict=True):
            assert torch.equal(mine, its)


def test_a_model_stays_frozen_where_its_callback_serves_another(tmp_path: Path) -> None:
    callback = FreezeCallback("head-only")
    first, _ = fit(callback, tmp_path, has_optimizer=False, max_steps=1)
    earlier = callback.frozen
    fit(callback, tmp_path, has_optimizer=False, max_steps=1)
    assert callback.frozen is not earlier
    names = {name for name, p in first.named_parameters() if not p.requires_grad}
    assert names == earlier.plan.frozen != set()
