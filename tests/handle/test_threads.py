"""Threads that freeze one model at once leave a whole state, and handles that tell the truth."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from contextlib import suppress

from torch import nn

from freezekit import Backbone, FreezeError, FreezePlan, Frozen, Strategy, freeze_
from freezekit.freezing.apply import lock_of


class Slow(Strategy):
    """Plans two layers, and meets the other thread in the middle of it if that is possible."""

    name = "slow"
    summary = "waits"

    def __init__(self, layers: tuple[int, int], meeting: threading.Barrier) -> None:
        self.layers = layers
        self.meeting = meeting

    def plan(self, backbone: Backbone) -> FreezePlan:
        with suppress(threading.BrokenBarrierError):  # the other waits for this one
            self.meeting.wait(timeout=0.05)
        return FreezePlan(f"{i}.{what}" for i in self.layers for what in ("weight", "bias"))


def in_force(frozen: Frozen) -> bool:
    return "no longer" not in repr(frozen)


def test_the_handle_in_force_tells_what_is_frozen() -> None:
    for _ in range(20):
        model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(8)))
        handles: list[Frozen] = []
        meeting = threading.Barrier(2)

        def freeze(layers: tuple[int, int], model=model, handles=handles, meeting=meeting) -> None:
            handles.append(freeze_(model, Slow(layers, meeting)))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the second thaws
            threads = [threading.Thread(target=freeze, args=(at,)) for at in ((0, 1), (4, 5))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        (frozen,) = filter(in_force, handles)
        assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen.plan.frozen
        model.train()
        assert {n for n, m in model.named_modules() if not m.training} == frozen.plan.eval_modules
        frozen.undo()
        assert all(p.requires_grad for p in model.parameters())
        assert all(m.training for m in model.train().modules())


def test_one_of_two_that_undo_at_once_is_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    frozen = freeze_(model, "by-name:glob=0.*")
    told: list[FreezeError] = []

    def undo() -> None:
        try:
            frozen.undo()
        except FreezeError as error:
            told.append(error)

    threads = [threading.Thread(target=undo) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 3


def test_a_lock_does_not_keep_its_model() -> None:
    model = nn.Linear(2, 2)
    assert lock_of(model) is lock_of(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
