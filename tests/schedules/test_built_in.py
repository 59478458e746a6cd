"""The built-in schedules in a real training: frozen is frozen, and a resume has the same bits."""

from __future__ import annotations

import pytest
import torch

from tests.schedules.training import Trained, begin, finish, go_on

STEPS = 24
SCHEDULES = (
    "gradual-unfreeze:every=1ep",
    "lp-ft",
    "chain-thaw",
    "freeze-out",
    "one-cycle-unfreeze",
    "auto-rgn",
    "plasticity:every=2",
    "on-plateau:phases=head-only|first-n-stages:n=2|full,patience=1",
)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_frozen_is_frozen_and_a_resume_has_the_same_bits(schedule: str) -> None:
    before: dict[str, torch.Tensor] = {}
    plans: list[frozenset[str]] = []

    def look(training: Trained, _: int) -> None:
        now = training.weights()
        if plans:
            assert all(torch.equal(before[name], now[name]) for name in plans[-1])
        before.update(now)
        plans.append(training.run.plan.frozen)

    whole = go_on(begin(schedule, "adamw"), range(STEPS), save=(3, 8, 15), each=look)
    for key, saved in whole.saves.items():
        at, when = key.split()
        again = begin(schedule, "adamw", seed=5)
        again.load(saved)
        if when == "before":
            again.run.step()
            finish(again, int(at))
        go_on(again, range(int(at) + 1, STEPS))
        expected, found = whole.weights(), again.weights()
        assert again.losses == whole.losses, key
        assert all(torch.equal(expected[name], found[name]) for name in expected), key
