from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from freezekit.memory.fake import make_fake
from freezekit.memory.tracker import StorageTracker, storage_bytes

KIB = 1024  # of 256 floats


@pytest.fixture(params=["real", "fake"])
def numbers(request):
    """Every test here holds for real and for fake tensors alike."""
    with contextlib.nullcontext() if request.param == "real" else FakeTensorMode():
        yield


@pytest.mark.usefixtures("numbers")
class TestTracker:
    def test_freed_storages_leave_at_once_and_the_peak_stays(self):
        with StorageTracker("cpu") as tracker:
            first = torch.zeros(256)
            second = first + 1
            assert tracker.current_bytes == 2 * KIB
            del first
            assert tracker.current_bytes == KIB
            third = second * 2
            del second, third
        assert tracker.current_bytes == 0
        assert tracker.peak_bytes == 2 * KIB

    def test_the_peak_can_start_anew(self):
        with StorageTracker("cpu") as tracker:
            torch.zeros(1024)
            small = torch.zeros(256)
            assert tracker.peak_bytes == 4 * KIB
            tracker.reset_peak()
            assert tracker.peak_bytes == KIB == small.untyped_storage().nbytes()
            kept = torch.zeros(256)
        assert tracker.peak_bytes == 2 * KIB
        del kept

    def test_views_in_place_and_out_ops_count_nothing_twice(self):
        with StorageTracker("cpu") as tracker:
            base = torch.zeros(4, 64)
            views = [base[0], base.t(), base.view(-1), base.detach()]
            base.add_(1).relu_()
            torch.add(base, base, out=base)
        assert tracker.peak_bytes == KIB
        del base
        assert tracker.current_bytes == KIB  # a view keeps it all
        del views
        assert tracker.current_bytes == 0

    def test_a_small_view_holds_the_whole_storage(self):
        with StorageTracker("cpu") as tracker:
            corner = torch.zeros(256)[:1]
        assert tracker.current_bytes == KIB
        del corner

    def test_resized_tensors_and_storages_count_as_what_they_hold(self):
        with StorageTracker("cpu") as tracker:
            tensor = torch.zeros(256)
            tensor.resize_(1024)
            assert (tracker.current_bytes, tracker.peak_bytes) == (4 * KIB, 4 * KIB)
            tensor.untyped_storage().resize_(0)  # behind the dispatcher's back
            assert tracker.current_bytes == 0
            other = torch.zeros(768)
            assert (tracker.current_bytes, tracker.peak_bytes) == (3 * KIB, 4 * KIB)
            tensor.untyped_storage().resize_(4 * KIB)
            tensor.zero_()
        assert tracker.peak_bytes == 7 * KIB
        del other

    def test_what_was_there_before_is_counted_when_added_or_used(self):
        added, used, idle = torch.zeros(256), torch.zeros(512), torch.zeros(1024)
        tracker = StorageTracker("cpu")
        tracker.add([added, added[1:]])
        assert tracker.current_bytes == tracker.peak_bytes == KIB
        with tracker:
            used.sum()
        assert tracker.current_bytes == 3 * KIB
        del idle

    def test_lists_of_tensors_are_seen(self):
        with StorageTracker("cpu") as tracker:
            parts = torch._foreach_add([torch.zeros(256), torch.zeros(256)], 1.0)
        assert (tracker.current_bytes, tracker.peak_bytes) == (2 * KIB, 4 * KIB)
        del parts

    def test_an_attribute_of_an_autograd_function_is_seen(self):
        class KeepsByHand(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.kept = x.exp()  # not through save_for_backward, whose hooks would see it
                return x.clone()

            @staticmethod
            def backward(ctx, gradient):
                return gradient * ctx.kept

        leaf = torch.ones(256, requires_grad=True)
        packed = []
        with (
            StorageTracker("cpu") as tracker,
            torch.autograd.graph.saved_tensors_hooks(packed.append, lambda _: None),
        ):
            output = KeepsByHand.apply(leaf)
        assert not packed
        assert tracker.current_bytes == 3 * KIB  # leaf, kept, output
        graph = output.grad_fn
        del output
        assert tracker.current_bytes == 2 * KIB
        del graph
        assert tracker.current_bytes == KIB

    def test_backward_frees_the_graph_and_leaves_gradients(self):
        weight = torch.ones(16, 16, requires_grad=True)
        images = torch.ones(16, 16)
        tracker = StorageTracker("cpu")
        tracker.add([weight, images])
        with tracker:
            loss = (images @ weight).sigmoid().sum()
            assert tracker.current_bytes == 3 * KIB + 4  # sigmoid keeps its result
            loss.backward()
        del loss
        assert weight.grad is not None
        assert tracker.current_bytes == 3 * KIB

    def test_the_peak_tells_which_storages_were_there_also_where_an_address_is_used_again(self):
        with StorageTracker("cpu") as tracker:
            kept, passing = torch.zeros(256), torch.zeros(512)
            there, gone = tracker.numbers_of([kept]), tracker.numbers_of([passing])
            del passing
            later = torch.zeros(128)  # may well lie where that one lay
            assert tracker.alive() == there | tracker.numbers_of([later])
        at_peak = tracker.peak_storages()
        assert sum(at_peak.values()) == tracker.peak_bytes == 3 * KIB
        assert at_peak.keys() == there | gone
        assert tracker.numbers_of([later]).isdisjoint(at_peak)
        tracker.reset_peak()
        assert tracker.peak_storages().keys() == tracker.alive()

    def test_holds_nothing_alive(self):
        with StorageTracker("cpu") as tracker:
            tensor = torch.zeros(256)
            seen = weakref.ref(tensor.untyped_storage())
            del tensor
            assert seen() is None
        assert tracker.snapshot() == {}


def test_other_devices_do_not_count():
    with StorageTracker("cpu") as tracker:
        tensors = [torch.zeros(256, device="meta"), torch.zeros(128)]
    assert tracker.current_bytes == KIB // 2
    assert storage_bytes(tensors, "meta").popitem()[1] == KIB


def test_snapshots_tell_what_is_new():
    with StorageTracker("cpu") as tracker:
        old = torch.zeros(256)
        before = tracker.snapshot()
        new = torch.zeros(512)
        after = tracker.snapshot()
    assert [size for key, size in after.items() if key not in before] == [2 * KIB]
    del old, new


def test_gradients_of_frozen_parameters_are_no_trouble():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    model[0].requires_grad_(False)
    with StorageTracker("cpu") as tracker:
        model(torch.ones(2, 16)).sum().backward()
    gc.collect()
    assert model[0].weight.grad is None
    assert tracker.current_bytes == (16 * 16 + 16 + 2 * (4 * 16 + 4)) * 4


class TestMakeFake:
    def test_parameters_stay_parameters_and_flags_stay(self):
        model = nn.Linear(3, 4, device="meta")
        model.bias.requires_grad_(False)
        make_fake(model, "cpu")
        assert isinstance(model.weight, nn.Parameter)
        assert [p.requires_grad for p in model.parameters()] == [True, False]
        assert {p.device.type for p in model.parameters()} == {"cpu"}

    def test_tied_parameters_stay_tied(self):
        model = nn.Sequential(nn.Linear(4, 4, device="meta"), nn.Linear(4, 4, device="meta"))
        model[1].weight = model[0].weight
        make_fake(model, "cpu")
        assert model[1].weight is model[0].weight
        assert len(storage_bytes(model.parameters(), "cpu")) == 3

    def test_views_of_one_storage_stay_so(self):
        model = nn.Module()
        table = torch.zeros(8, device="meta")
        model.register_buffer("table", table)
        model.row = table[:2]  # a plain attribute
        make_fake(model, "cpu")
        assert list(storage_bytes([model.table, model.row], "cpu").values()) == [32]

    def test_layout_is_kept(self):
        model = nn.Conv2d(3, 4, 3, device="meta").to(memory_format=torch.channels_last)
        make_fake(model, "cpu")
        assert model.weight.is_contiguous(memory_format=torch.channels_last)
