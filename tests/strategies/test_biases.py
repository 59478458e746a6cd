"""bias-only: biases by role, under any name, parametrization or pruning; and what is none."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from freezekit import Backbone, load_backbone, plan
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from collections.abc import Callable


def biases(model: nn.Module, example_input: object = None) -> set[str]:
    return set(Backbone(model, example_input).biases)


def trained(model: nn.Module, example_input: object) -> set[str]:
    decided = plan(model, "bias-only:head=false", example_input=example_input)
    return {name for name, _ in model.named_parameters()} - decided.frozen


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind: type[nn.RNNBase]) -> None:
    layer = kind(4, 3, num_layers=2, bidirectional=True, batch_first=True)
    model = nn.Sequential(OrderedDict(project=nn.Linear(4, 4), rnn=layer))
    expected = {f"rnn.{n}" for n, _ in layer.named_parameters() if n.startswith("bias")}
    assert len(expected) == 8
    assert trained(model, torch.ones(2, 5, 4)) == expected | {"project.bias"}


def test_a_projected_lstm_has_matrices_besides_its_biases() -> None:
    model = nn.LSTM(4, 6, proj_size=3)
    assert trained(model, torch.ones(2, 5, 4)) == {"bias_ih_l0", "bias_hh_l0"}


class Cells(nn.Module):
    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(4, 3)  # type: ignore[call-arg]  # of the classes that derive from it
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = self.cell(x)
        return self.fc(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells(kind: type[nn.RNNCellBase]) -> None:
    assert trained(Cells(kind), torch.ones(2, 4)) == {"cell.bias_ih", "cell.bias_hh", "fc.bias"}


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


def test_attention_with_biases_of_keys_and_values() -> None:
    names = ("in_proj_bias", "bias_k", "bias_v", "out_proj.bias")
    assert trained(Attends(), torch.ones(2, 5, 8)) == {f"attention.{name}" for name in names}


def small() -> nn.Sequential:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3))


def pruned(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[2], "bias", 0.5)


def pruned_weight(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[2], "weight", 0.5)


def parametrized(model: nn.Sequential) -> None:
    parametrize.register_parametrization(model[2], "bias", nn.Tanh())


def two_originals(model: nn.Sequential) -> None:
    parametrizations.weight_norm(model[2], "bias")


def two_originals_of_the_weight(model: nn.Sequential) -> None:
    parametrizations.weight_norm(model[2], "weight")


def old_weight_norm(model: nn.Sequential) -> None:
    nn.utils.weight_norm(model[2], "bias")


def old_spectral_norm(model: nn.Sequential) -> None:
    nn.utils.spectral_norm(model[2])


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (pruned, {"2.bias_orig"}),
        (pruned_weight, {"2.bias"}),
        (parametrized, {"2.parametrizations.bias.original"}),
        (
            two_originals,
            {"2.parametrizations.bias.original0", "2.parametrizations.bias.original1"},
        ),
        (two_originals_of_the_weight, {"2.bias"}),
        (old_weight_norm, {"2.bias_g", "2.bias_v"}),
        (old_spectral_norm, {"2.bias"}),
    ],
)
def test_a_reparametrized_bias_stays_one(
    change: Callable[[nn.Sequential], None], names: set[str]
) -> None:
    model = small()
    change(model)
    expected = {"0.bias", "5.bias", *names}
    assert trained(model, torch.ones(2, 3, 16, 16)) == expected
    assert biases(model, torch.ones(1)) == expected  # by name, as this input is refused


class Own(nn.Module):
    """A linear layer with names of its own."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a = nn.Parameter(torch.ones(4, 4))
        self.b = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "linear":
            return nn.functional.linear(x, self.a, self.b)
        if self.way == "keyword":
            return nn.functional.linear(x, weight=self.a, bias=self.b * 0.1)
        if self.way == "addmm":
            return torch.addmm(self.b, x, self.a)
        if self.way == "in place":
            return (x @ self.a).add_(self.b)
        if self.way == "norm":
            return nn.functional.layer_norm(x @ self.a, (4,), None, self.b)
        return self.b.view(1, -1) + x @ self.a


@pytest.mark.parametrize("way", ["linear", "keyword", "addmm", "in place", "norm", "added"])
def test_a_bias_under_another_name(way: str) -> None:
    assert trained(nn.Sequential(nn.ReLU(), Own(way)), torch.ones(2, 4)) == {"1.b"}


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.eps = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * (x / (x.norm(dim=1, keepdim=True) + self.eps)) + self.beta


def test_the_shift_of_a_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), OwnNorm())
    assert trained(model, torch.ones(2, 3, 8, 8)) == {"1.beta"}
    assert biases(model, torch.ones(1)) == {"1.beta"}


class Tokens(nn.Module):
    """What is added or named like a bias, and is none."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.positions = nn.Parameter(torch.zeros(1, 6, 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(6, 6))
        self.bias_table = nn.Parameter(torch.zeros(6, 6))
        self.scale = nn.Parameter(torch.ones(4))
        self.fc = nn.Linear(4, 4)
        self.modulation = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = (self.cls_token + self.positions[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x + self.positions[:, 1:]], 1) * self.scale
        x = (self.relative_position_bias_table + self.bias_table).softmax(-1) @ x
        shift = self.modulation(x.mean((0, 1)))
        return nn.functional.linear(x, self.fc.weight, shift) + self.fc.bias


def test_tokens_tables_and_computed_shifts_are_no_biases() -> None:
    assert trained(Tokens(), torch.ones(2, 5, 4)) == {"fc.bias", "modulation.bias"}


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:swin_t",
        exhaustive("torchvision:vit_b_16"),
        exhaustive("timm:beit_base_patch16_224"),
        exhaustive("timm:levit_128s"),
        "timm:resmlp_12_224",
        "timm:test_efficientnet",
        "timm:convnextv2_atto",
    ],
)
def test_real_models_have_the_biases_that_names_tell(name: str) -> None:
    model = load_backbone(name, device="meta")
    last = {n: n.rpartition(".")[2] for n, _ in model.named_parameters()}
    named = {n for n, end in last.items() if end == "bias" or end.endswith("_bias")}
    named |= {n for n, end in last.items() if end == "beta"}  # of affine layers, norms in effect
    assert biases(model) == named


def test_nothing_about_the_model_changes() -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert biases(model, torch.ones(2, 3, 16, 16)) == {"0.bias", "2.bias", "5.bias"}
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert model[2].training
