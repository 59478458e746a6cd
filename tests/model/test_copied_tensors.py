"""Tensors that modules keep for themselves, in copies: lists, dicts, objects, views, caches."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from freezekit.model.copies import meta_copy, real_copy

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Pair:
    one: Tensor
    two: list[Tensor]


KEEPERS: dict[str, Callable[[Tensor], Any]] = {
    "list": lambda weight: [weight],
    "tuple": lambda weight: (weight, weight),
    "dict": lambda weight: {"decayed": weight},
    "keys of a dict": lambda weight: {weight: 0.1},
    "set": lambda weight: {weight},
    "nested": lambda weight: [{"all": ((weight,), None)}, deque([weight])],
    "object with slots": lambda weight: Pair(weight, [weight]),
    "parameter groups": lambda weight: [{"params": [weight], "lr": 0.1}],
}


def found_in(nest: Any) -> list[Tensor]:
    if isinstance(nest, Tensor):
        return [nest]
    if isinstance(nest, Pair):
        nest = [nest.one, nest.two]
    if isinstance(nest, dict):
        nest = [*nest, *nest.values()]
    iterable = isinstance(nest, (list, tuple, set, deque))
    return [tensor for item in nest for tensor in found_in(item)] if iterable else []


@pytest.mark.parametrize("how", KEEPERS)
@pytest.mark.parametrize("copied_by", [meta_copy, real_copy])
def test_a_weight_that_is_kept_elsewhere_too_is_one_parameter(
    copied_by: Callable[[nn.Module], nn.Module], how: str
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    model.kept = KEEPERS[how](model[0].weight)
    model[1].statistics = [model[1].running_mean]
    copied = copied_by(model)
    assert all(isinstance(parameter, nn.Parameter) for parameter in copied.parameters())
    kept = found_in(copied.kept)
    assert kept
    assert all(tensor is copied[0].weight for tensor in kept)
    assert copied[0].weight is not model[0].weight
    assert copied[1].statistics[0] is copied[1].running_mean
    on_meta = {tensor.is_meta for tensor in (*copied.parameters(), *copied.buffers())}
    assert on_meta == {copied_by is meta_copy}
    assert found_in(model.kept)[0] is model[0].weight


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell])
@pytest.mark.parametrize("copied_by", [meta_copy, real_copy])
def test_recurrent_layers(
    copied_by: Callable[[nn.Module], nn.Module], make: Callable[..., nn.Module]
) -> None:
    model = make(4, 3) if make is nn.LSTMCell else make(4, 3, num_layers=2, bidirectional=True)
    copied = copied_by(model)
    given = torch.ones(5, 4) if make is nn.LSTMCell else torch.ones(5, 2, 4)
    outputs, expected = copied(given.to(next(copied.parameters()).device)), model(given)
    assert outputs[0].shape == expected[0].shape
    assert outputs[0].is_meta == (copied_by is meta_copy)
    if make is not nn.LSTMCell:
        flat = copied._flat_weights
        assert [id(weight) for weight in flat] == [id(p) for p in copied.parameters()]


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 4, 1), nn.LSTM(4, 3), nn.GRU(4, 3)], ids=repr)
@pytest.mark.parametrize("copied_by", [meta_copy, real_copy])
def test_parametrized_layers(copied_by: Callable[[nn.Module], nn.Module], layer: nn.Module) -> None:
    is_recurrent = isinstance(layer, nn.RNNBase)
    model = nn.utils.parametrizations.weight_norm(
        copy.deepcopy(layer), "weight_hh_l0" if is_recurrent else "weight"
    )
    given = torch.rand(5, 2, 4)[:, :, : 4 if is_recurrent else 2]
    given = given if is_recurrent else given[None].movedim(-1, 1)
    copied = copied_by(model)
    assert {p.is_meta for p in copied.parameters()} == {copied_by is meta_copy}
    assert not {*map(id, copied.parameters())} & {*map(id, model.parameters())}
    output = copied(given.to(next(copied.parameters()).device))
    output, expected = (o[0] if is_recurrent else o for o in (output, model(given)))
    assert output.shape == expected.shape
    assert copied_by is meta_copy or torch.equal(output, expected)


@pytest.mark.parametrize("copied_by", [meta_copy, real_copy])
def test_weights_that_only_a_list_holds(copied_by: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Linear(2, 2)
    model.hidden = [nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)]
    copied = copied_by(model)
    assert [type(tensor) for tensor in copied.hidden] == [nn.Parameter, Tensor]
    assert all(tensor.requires_grad for tensor in copied.hidden)
    assert {tensor.is_meta for tensor in copied.hidden} == {copied_by is meta_copy}


@pytest.mark.parametrize("copied_by", [meta_copy, real_copy])
def test_a_view_of_a_weight_stays_one(copied_by: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Linear(4, 6)
    model.kept = [model.weight.detach()[2:4], model.bias.data]
    copied = copied_by(model)
    for view, weight in zip(copied.kept, (copied.weight, copied.bias), strict=True):
        assert view.untyped_storage()._cdata == weight.untyped_storage()._cdata
    assert copied.kept[0].shape == (2, 4)
    if copied_by is real_copy:
        with torch.no_grad():
            copied.weight.fill_(7)
        assert copied.kept[0].eq(7).all()
    assert not model.weight.eq(7).any()


def test_constants_in_lists_keep_their_values() -> None:
    model = nn.Linear(2, 2)
    model.anchors = [torch.arange(3.0)]
    model.table = torch.ones(3)
    copied = meta_copy(model)
    assert torch.equal(copied.anchors[0], model.anchors[0])
    assert copied.anchors[0] is not model.anchors[0]
    assert copied.table.is_meta


@pytest.mark.parametrize("copied_by", [meta_copy, real_copy])
def test_what_a_forward_computed_and_left_behind(
    copied_by: Callable[[nn.Module], nn.Module],
) -> None:
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2)))
    model.outputs = {"last": [model(torch.ones(1, 2))]}
    assert model.outputs["last"][0].grad_fn is not None
    copied = copied_by(model)
    assert copied.outputs["last"][0].is_leaf
    assert copied(torch.ones(1, 2, device=copied[0].weight_orig.device)).shape == (1, 2)


def test_a_model_on_meta_becomes_zeros_wherever_it_keeps_tensors() -> None:
    with torch.device("meta"):
        model = nn.LSTM(2, 2)
        model.anchors = [torch.ones(2)]
        model.table = torch.ones(2)
    copied = real_copy(model)
    assert torch.equal(copied.anchors[0], torch.zeros(2))
    assert torch.equal(copied.table, torch.zeros(2))
    assert copied(torch.ones(1, 1, 2))[0].eq(0).all()
