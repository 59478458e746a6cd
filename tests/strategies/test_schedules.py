"""The built-in schedules on real models: their phases and rates are those of their sources."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from freezekit import (
    Backbone,
    PlanError,
    Progress,
    ScheduleError,
    SpecError,
    load_backbone,
    plan,
)

from .simulated import Run, made, phases, stages, trained, view

RESNET = "torchvision:resnet18"
DETECTOR = "torchvision:fasterrcnn_mobilenet_v3_large_fpn"
MODELS = (RESNET, "timm:vit_tiny_patch16_224", "timm:convnext_atto", DETECTOR)
EARLY, LATE = ("stem", "body"), ("neck", "head")
ALL = ("stem", "body", "neck", "head")


def run(text: str, model: str, epochs: int, steps: int = 4) -> Run:
    return Run(made(text), view(model), epochs, steps).go()


def bodyless() -> Backbone:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    return Backbone(net, torch.zeros(2, 4))


@pytest.mark.parametrize("model", MODELS)
def test_gradual_unfreeze_thaws_one_stage_after_each_period(model: str) -> None:
    backbone = view(model)
    early, late = stages(backbone, *EARLY), stages(backbone, *LATE)
    done = run("gradual-unfreeze", model, epochs=len(early) + 2)
    expected = [
        ((epoch, 0), {*late, *early[len(early) - min(epoch, len(early)) :]})
        for epoch in range(len(early) + 3)
    ]
    assert list(phases(done)) == expected
    assert all(rates == done.rates[0] for rates in done.rates)
    for back, name in enumerate(reversed(early), start=1):
        assert done.rates[0][name] == pytest.approx(2.6**-back)
    assert not done.rates[0].keys() & set(late)


def test_gradual_unfreeze_counts_steps_and_shares_of_the_run() -> None:
    by_step = run("gradual-unfreeze:every=6step,decay=1", RESNET, epochs=5)
    assert [when for when, _ in by_step.plans] == [(0, 0), (1, 2), (2, 4), (4, 2)]
    by_share = run("gradual-unfreeze:every=20%", RESNET, epochs=5)
    assert [when for when, _ in by_share.plans] == [(epoch, 0) for epoch in range(6)]


@pytest.mark.parametrize("model", MODELS)
def test_lp_ft_trains_the_head_then_everything_at_a_lower_rate(model: str) -> None:
    done = run("lp-ft:probe=30%,rate=0.25", model, epochs=5)  # 1.5 epochs of 4 steps
    backbone = view(model)
    assert list(phases(done)) == [
        ((0, 0), set(stages(backbone, *LATE))),
        ((1, 2), set(stages(backbone, *ALL))),
    ]
    assert done.rates[:6] == [{}] * 6
    assert done.rates[6:] == [dict.fromkeys(stages(backbone, *ALL), 0.25)] * 14


@pytest.mark.parametrize("model", MODELS)
def test_chain_thaw_shares_the_run_equally(model: str) -> None:
    backbone = view(model)
    early, late = stages(backbone, *EARLY), set(stages(backbone, *LATE))
    turns = [late, *({name} for name in early), {*early, *late}]
    done = run("chain-thaw", model, epochs=2 * len(turns), steps=3)
    assert list(phases(done)) == [((2 * turn, 0), names) for turn, names in enumerate(turns)]
    assert [set(rates.values()) for rates in done.rates] == [{1.0}] * 6 + [{0.1}] * (
        len(done.rates) - 6
    )


def test_chain_thaw_with_a_length_ends_with_all() -> None:
    done = run("chain-thaw:every=2step,rate=1", RESNET, epochs=4)
    assert [4 * epoch + place for (epoch, place), _ in done.plans] == [0, 2, 4, 6, 8, 10, 12]
    assert done.plans[-1][1] == "full"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("how", "power"), [("linear", 1), ("cubic", 3)])
@pytest.mark.parametrize("scaled", [True, False])
def test_freeze_out_anneals_each_stage_and_freezes_it(
    model: str, how: str, power: int, scaled: bool
) -> None:
    epochs, steps = 5, 40
    done = run(f"freeze-out:t0=0.6123,how={how},scaled={str(scaled).lower()}", model, epochs, steps)
    early, late = stages(done.backbone, *EARLY), stages(done.backbone, *LATE)
    ends = {name: (0.6123 + 0.3877 * i / len(early)) ** power for i, name in enumerate(early)}
    ends |= dict.fromkeys(late, 1.0)
    for step, rates in enumerate(done.rates):
        share = step / (epochs * steps)
        alive = {name for name, end in ends.items() if end > share}
        assert rates.keys() == alive
        for name in alive:
            first = 1 / ends[name] if scaled else 1.0
            cosine = first / 2 * (1 + math.cos(math.pi * share / ends[name]))
            assert rates[name] == pytest.approx(cosine, abs=1e-12)
    total = epochs * steps
    for (epoch, place), names in phases(done):
        share = (epoch * steps + place) / total
        assert names == {name for name, end in ends.items() if end > share}
    assert len(done.plans) == len(early) + 1


def test_freeze_out_scales_so_that_all_stages_have_the_same_sum_of_rates() -> None:
    done = run("freeze-out:t0=0.5", RESNET, epochs=10, steps=100)
    sums = {name: sum(rates.get(name, 0.0) for rates in done.rates) for name in done.rates[0]}
    assert all(total == pytest.approx(500, rel=0.01) for total in sums.values())


@pytest.mark.parametrize("model", MODELS)
def test_one_cycle_unfreeze_has_the_rates_of_fastai(model: str) -> None:
    epochs, steps = 4, 50
    done = run("one-cycle-unfreeze", model, epochs, steps)
    early, late = stages(done.backbone, *EARLY), stages(done.backbone, *LATE)
    assert list(phases(done)) == [((0, 0), set(late)), ((1, 0), {*early, *late})]

    def cosine(start: float, end: float, share: float) -> float:
        return start + (1 + math.cos(math.pi * (1 - share))) * (end - start) / 2

    def cycle(share: float, pct_start: float, low: float, high: float) -> float:
        if share < pct_start:
            return cosine(low, high, share / pct_start)
        return cosine(high, high / 1e5, (share - pct_start) / (1 - pct_start))

    for step, rates in enumerate(done.rates[:steps]):
        assert rates == pytest.approx(
            dict.fromkeys(late, cycle(step / steps, 0.99, 1 / 25, 1)), rel=1e-9
        )
    for step, rates in enumerate(done.rates[steps:]):
        share = step / (3 * steps)
        for i, name in enumerate(early):
            high = 0.5 / 100 * 100 ** (i / len(early))  # from base / 2 / lr_mult to base / 2
            assert rates[name] == pytest.approx(cycle(share, 0.3, high / 5, high), rel=1e-9)
        for name in late:
            assert rates[name] == pytest.approx(cycle(share, 0.3, 0.1, 0.5), rel=1e-9)


@pytest.mark.parametrize("text", ["gradual-unfreeze", "lp-ft", "chain-thaw", "freeze-out"])
def test_a_model_without_a_body_has_a_stem_and_a_head(text: str) -> None:
    done = Run(made(text), bodyless(), epochs=6, steps=2).go()
    names = [trained(done.backbone, decided) for _, decided in done.plans]
    expected = {
        "gradual-unfreeze": [{"head"}, {"0", "head"}],
        "lp-ft": [{"head"}, {"0", "head"}],
        "chain-thaw": [{"head"}, {"0"}, {"0", "head"}],
        "freeze-out": [{"0", "head"}, {"head"}],
    }[text]
    stem = done.backbone.stem.name
    wanted = [{stem if name == "0" else name for name in phase} for phase in expected]
    assert [phase for i, phase in enumerate(names) if not i or phase != names[i - 1]] == wanted


@pytest.mark.parametrize("text", ["gradual-unfreeze", "lp-ft", "chain-thaw", "one-cycle-unfreeze"])
def test_a_model_without_a_head_is_refused(text: str) -> None:
    backbone = Backbone(load_backbone("timm:resnet18", num_classes=0, device="meta"))
    decided = made(text).decide(backbone, Progress(epochs=4, steps_per_epoch=2))
    with pytest.raises(PlanError, match="head-only needs a head to train"):
        plan(backbone, str(decided.plan))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gradual-unfreeze:every=0ep", "every is 0ep, expected longer than 0"),
        ("gradual-unfreeze:decay=1.5", r"decay is 1\.5, expected a number above 0, at most 1"),
        ("gradual-unfreeze:every=3", "takes a time such as 1ep, 500step or 50%"),
        ("lp-ft:probe=0step", "probe is 0step, expected longer than 0, and less than all"),
        ("lp-ft:probe=100%", "probe is 100%, expected longer than 0, and less than all"),
        ("lp-ft:rate=0", r"rate is 0\.0, expected a finite number above 0"),
        ("chain-thaw:every=0ep", "every is 0ep, expected longer than 0, or none"),
        ("chain-thaw:rate=inf", "rate is inf, expected a finite number above 0"),
        ("freeze-out:t0=0", r"t0 is 0\.0, expected a number above 0, at most 1"),
        ("freeze-out:how=square", "takes 'linear' or 'cubic'"),
        ("one-cycle-unfreeze:frozen=0ep", "frozen is 0ep, expected longer than 0"),
        ("one-cycle-unfreeze:pct_start=1", r"pct_start is 1\.0, expected a number between 0 and 1"),
        ("one-cycle-unfreeze:div=0.5", r"div=0\.5: expected 1 or more, finite"),
    ],
)
def test_bad_options_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        made(text)


@pytest.mark.parametrize(
    ("text", "now", "message"),
    [
        ("lp-ft", Progress(), "the time 20% needs the number of epochs"),
        ("chain-thaw", Progress(), "a share of the run needs the number of epochs"),
        ("freeze-out", Progress(), "a share of the run needs the number of epochs"),
        ("one-cycle-unfreeze", Progress(epochs=4), "and needs the number of epochs and of steps"),
        (
            "lp-ft:probe=8step",
            Progress(epochs=2, steps_per_epoch=4),
            r"alone for 8step, but the training has only 2 epoch\(s\) of 4 step\(s\)",
        ),
        (
            "one-cycle-unfreeze:frozen=3ep",
            Progress(epochs=3, steps_per_epoch=4),
            r"alone for 3ep, but the training has only 3 epoch\(s\)",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_refused(text: str, now: Progress, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        made(text).decide(view(RESNET), now)
