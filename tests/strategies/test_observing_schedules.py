"""The built-in schedules that observe: each decides by what it is shown, and by nothing else."""

from __future__ import annotations

import random

import pytest

from freezekit import Observed, Progress, ScheduleError, SpecError

from .simulated import Run, made, phases, stages, trained, view

RESNET = "torchvision:resnet18"
DETECTOR = "torchvision:fasterrcnn_mobilenet_v3_large_fpn"
NAMES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")


def norms_of(step: int) -> Observed:
    """Gradients and weights that differ by stage and step."""
    noise = random.Random(step)
    gradients = {name: (i + 1) * noise.uniform(0.5, 1.5) for i, name in enumerate(NAMES)}
    return Observed(gradient_norms=gradients, weight_norms=dict.fromkeys(NAMES, 4.0))


def mean_share(steps: range, name: str) -> float:
    """The relative gradient norm of a stage, as a share of the largest."""
    means = {n: sum(norms_of(s).gradient_norms[n] / 4 for s in steps) for n in NAMES}
    return means[name] / max(means.values())


def test_auto_rgn_sets_the_rates_by_the_first_batches_of_each_epoch() -> None:
    done = Run(made("auto-rgn:batches=3"), view(RESNET), 3, 10, norms_of).go()
    assert [(when, plan) for when, plan in done.plans] == [((0, 0), "full")]
    assert done.rates[:3] == [{}] * 3
    for step, rates in enumerate(done.rates[3:], start=3):
        first = (step - 3) // 10 * 10 + 1
        wanted = {name: mean_share(range(first, first + 3), name) for name in NAMES}
        assert rates == pytest.approx(wanted)
        assert max(rates.values()) == 1


def test_auto_rgn_goes_on_averaging_if_an_epoch_has_too_few_batches() -> None:
    done = Run(made("auto-rgn:batches=5"), view(RESNET), 5, 2, norms_of).go()
    assert [bool(rates) for rates in done.rates] == [False] * 5 + [True] * 5
    assert done.rates[5]["stem"] == pytest.approx(mean_share(range(1, 6), "stem"))


def test_auto_rgn_sees_every_nth_step() -> None:
    schedule = made("auto-rgn:every=4,batches=1")
    assert (schedule.observes, schedule.observe_every) == ({"gradients"}, 4)
    seen = Run(schedule, view(RESNET), 1, 9, lambda s: norms_of(s) if s % 4 == 0 else Observed())
    assert [bool(rates) for rates in seen.go().rates] == [False] * 4 + [True] * 5


def test_auto_rgn_freezes_slow_stages_for_good() -> None:
    def norms(step: int) -> Observed:
        alive = NAMES if step == 1 else NAMES[2:]
        gradients = {name: 10.0 ** NAMES.index(name) for name in alive}
        return Observed(gradient_norms=gradients, weight_norms=dict.fromkeys(alive, 1.0))

    backbone = view(RESNET)
    done = Run(made("auto-rgn:batches=1,freeze_below=0.0005"), backbone, 3, 2, norms).go()
    assert list(phases(done)) == [((0, 0), set(NAMES)), ((0, 1), set(NAMES[2:]))]
    _, decided = done.plans[1]
    assert decided.eval_modules == backbone.inside(decided.frozen, backbone.stages[:2])
    assert "layer1.0.bn1" in decided.eval_modules
    assert done.state["frozen"] == ["stem", "layer1"]
    assert "below 0.0005: stem, layer1" in done.reasons[1]


@pytest.mark.parametrize(
    ("gradients", "weights", "rates"),
    [
        ({"stem": 1.0, "head": 0.0}, {"stem": 1.0, "head": 1.0}, {"stem": 1.0, "head": 1e-6}),
        ({"stem": 1.0, "head": 1.0}, {"stem": 1.0, "head": 0.0}, {"stem": 1e-6, "head": 1.0}),
        ({"stem": 0.0, "head": 0.0}, {"stem": 1.0, "head": 1.0}, None),
        ({"stem": float("nan"), "head": 1.0}, {"stem": 1.0, "head": 1.0}, None),
        ({"stem": float("inf"), "head": 1.0}, {"stem": 1.0, "head": 1.0}, None),
    ],
)
def test_auto_rgn_keeps_rates_above_0_and_finite(gradients, weights, rates) -> None:
    schedule, backbone = made("auto-rgn:batches=1"), view(RESNET)
    state = schedule.decide(backbone, Progress()).state
    seen = Observed(gradient_norms=gradients, weight_norms=weights)
    assert schedule.decide(backbone, Progress(1, 0, 1, observed=seen, state=state)).rates == rates


def outputs(values, rate=lambda step: 0.1, every=2, names=NAMES):
    """What is observed after every second step: the given change of each stage."""

    def seen(step: int) -> Observed:
        if step % every:
            return Observed()
        changes = {name: values(name, step // every) for name in names}
        return Observed(output_changes=changes, rate=rate(step))

    return seen


def test_plasticity_freezes_each_stage_when_its_output_has_settled() -> None:
    def values(name: str, count: int) -> float:
        settles = {"stem": 2, "layer1": 4, "layer2": 100}.get(name, 0)
        return 0.5 ** min(count, settles) if settles else 0.1

    schedule = made("plasticity:every=2,window=3,tolerance=0.2")
    assert (schedule.observes, schedule.observe_every) == ({"outputs", "rate"}, 2)
    done = Run(schedule, view(RESNET), 4, 10, outputs(values)).go()
    # stem: observations 2, 3, 4 are equal; then layer1: 5, 6, 7 are; layer2 goes on falling
    assert [(when, plan) for when, plan in done.plans] == [
        ((0, 0), "full"),
        ((0, 8), "first-n-stages:n=0"),
        ((1, 4), "first-n-stages:n=1"),
    ]
    assert done.reasons[1:] == [
        "the output of stem has settled",
        "the output of layer1 has settled",
    ]


@pytest.mark.parametrize(
    ("history", "settled"),
    [
        ([1.0, 1.0, 1.0, 1.0], True),
        ([1.0, 1.05, 1.1, 1.15], True),  # a rise of 0.15, and a fifth of the mean is 0.215
        ([1.0, 1.1, 1.2, 1.3], False),  # a rise of 0.3
        ([1.3, 1.2, 1.1, 1.0], False),
        ([1.0, 2.0, 2.0, 1.0], True),  # noise without a direction
        ([0.0, 0.0, 0.0, 0.0], True),
    ],
)
def test_plasticity_judges_the_line_through_the_window(history, settled) -> None:
    seen = outputs(lambda name, count: history[count - 1], every=1)
    done = Run(made("plasticity:every=1,window=4"), view(RESNET), 1, 4, seen).go()
    assert (len(done.plans) == 2) is settled


def test_plasticity_thaws_all_when_the_learning_rate_restarts() -> None:
    def rate(step: int) -> float:
        return 0.1 * 0.8 ** (step % 20)  # falls, and begins anew after 20 steps

    seen = outputs(lambda name, count: 1.0, rate)
    done = Run(made("plasticity:every=2,window=3"), view(RESNET), 1, 40, seen).go()
    assert [(when[1], plan) for when, plan in done.plans] == [
        (0, "full"),
        (6, "first-n-stages:n=0"),
        (12, "first-n-stages:n=1"),
        (18, "first-n-stages:n=2"),
        (20, "full"),
        (26, "first-n-stages:n=0"),
        (32, "first-n-stages:n=1"),
        (38, "first-n-stages:n=2"),
        (40, "full"),
    ]
    assert done.reasons[4] == "the learning rate rose to 0.1"


def test_plasticity_never_freezes_necks_and_head() -> None:
    backbone = view(DETECTOR)
    names = [stage.name for stage in backbone.stages]
    seen = outputs(lambda name, count: 1.0, every=1, names=names)
    done = Run(made("plasticity:every=1,window=2"), backbone, 1, 60, seen).go()
    assert trained(backbone, done.plans[-1][1]) == set(stages(backbone, "neck", "head"))
    assert len(done.plans) == 1 + len(stages(backbone, "stem", "body"))


def test_plasticity_passes_over_a_stage_without_an_observed_output() -> None:
    seen = outputs(lambda name, count: 1.0, every=1, names=NAMES[2:])
    done = Run(made("plasticity:every=1,window=2"), view(RESNET), 1, 2, seen).go()
    assert done.plans[-1][1] == "first-n-stages:n=2"


def test_plasticity_takes_one_observation_of_a_step() -> None:
    schedule, backbone = made("plasticity:window=2"), view(RESNET)
    state = schedule.decide(backbone, Progress()).state
    seen = Observed(output_changes={"stem": 1.0}, rate=0.1)
    now = Progress(9, 0, 9, observed=seen, state=state)
    after = schedule.decide(backbone, now).state
    ended = Progress(9, 1, 0, observed=seen, state=after)
    assert schedule.decide(backbone, ended).state is None


LOSSES = (1.0, 0.9, 0.9, 0.95, 0.8, 0.7, 0.7, 0.7, 0.1, 0.2, 0.3)


def losses(epoch: int) -> dict[str, float]:
    return {"loss": LOSSES[epoch - 1], "accuracy": 1 - LOSSES[epoch - 1]}


@pytest.mark.parametrize("metric", ["metric=loss", "metric=accuracy,mode=max"])
def test_on_plateau_goes_on_when_the_metric_stops_improving(metric: str) -> None:
    text = f"on-plateau:phases=head-only|last-n-stages:n=1|full,patience=2,{metric}"
    schedule = made(text)
    assert schedule.plans() == ("head-only", "last-n-stages:n=1", "full")
    done = Run(schedule, view(RESNET), 11, 2, metrics=losses).go()
    # best 0.9 after epoch 2, two epochs without; then 0.7 after epoch 6, two without
    assert done.plans == [
        ((0, 0), "head-only"),
        ((4, 0), "last-n-stages:n=1"),
        ((8, 0), "full"),
    ]
    assert done.kept == done.restored == []


def test_on_plateau_keeps_the_best_weights_and_begins_phases_with_them() -> None:
    text = "on-plateau:phases=head-only|last-n-stages:n=1|full,patience=2,restore_best=true"
    done = Run(made(text), view(RESNET), 11, 2, metrics=losses).go()
    assert done.kept == [1, 2, 5, 6]
    assert done.restored == [4, 8]


def test_on_plateau_with_restored_weights_has_to_beat_all_phases() -> None:
    values = (0.5, 0.6, 0.55, 0.4)
    text = "on-plateau:phases=head-only|last-n-stages:n=1|full,patience=1,restore_best="

    def run(best: str) -> list[int]:
        metrics = lambda epoch: {"loss": values[epoch - 1]}  # noqa: E731
        done = Run(made(text + best), view(RESNET), 4, 1, metrics=metrics).go()
        return [epoch for (epoch, _), _ in done.plans]

    assert run("true") == [0, 2, 3]  # 0.55 is not better than 0.5, whose weights are in force
    assert run("false") == [0, 2]  # it is the first value of its phase, and 0.4 is better


def test_on_plateau_counts_small_changes_and_nan_as_no_improvement() -> None:
    values = (float("nan"), 1.0, 0.95, 0.92, float("inf"))
    metrics = lambda epoch: {"loss": values[epoch - 1]}  # noqa: E731
    text = "on-plateau:patience=3,min_delta=0.1"
    done = Run(made(text), view(RESNET), 5, 1, metrics=metrics).go()
    assert done.plans == [((0, 0), "head-only"), ((5, 0), "full")]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [({}, "nothing was reported"), ({"val_loss": 1.0, "top1": 0.5}, "'val_loss', 'top1' was")],
)
def test_on_plateau_lists_what_was_reported_instead(metrics, said: str) -> None:
    with pytest.raises(ScheduleError, match=rf"metric 'loss' after epoch 1, but {said}"):
        Run(made("on-plateau"), view(RESNET), 2, 1, metrics=lambda _: metrics).go()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto-rgn:every=0", "every is 0, expected 1 or more"),
        ("auto-rgn:batches=0", "batches is 0, expected 1 or more"),
        ("auto-rgn:freeze_below=1", r"freeze_below is 1\.0, expected 0 or more, below 1"),
        ("plasticity:every=0", "every is 0, expected more than 0"),
        ("plasticity:window=1", "window is 1, expected more than 1"),
        ("plasticity:tolerance=0", r"tolerance is 0\.0, expected more than 0"),
        ("plasticity:restart=1", r"restart is 1\.0, expected more than 1"),
        ("on-plateau:phases=", "phases is empty, expected specs such as head-only|full"),
        ("on-plateau:patience=0", "patience is 0, expected 1 or more"),
        ("on-plateau:min_delta=-1", r"min_delta is -1\.0, expected a finite number from 0 on"),
        ("on-plateau:mode=best", "takes 'min' or 'max'"),
    ],
)
def test_bad_options_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        made(text)
