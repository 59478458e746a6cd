from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from freezekit.errors import StagingError
from freezekit.model.copies import meta_copy, on_device, real_copy
from freezekit.staging.observing import observe
from freezekit.staging.trace import trace_forward


class Embeds(nn.Module):
    """Uses a bare parameter, a weight through a function, and a shape that is no use at all."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.position = nn.Parameter(torch.zeros(1, 8, 1, 1))
        self.filters = nn.Parameter(torch.zeros(8, 3, 3, 3))
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        assert self.unused.shape == (1,)
        assert self.unused.dtype == x.dtype
        x = nn.functional.conv2d(x, self.filters, padding=1) + self.position
        return self.head(x.mean((2, 3)))


def test_uses_are_seen_in_order_of_use_and_not_of_registration() -> None:
    trace = observe(Embeds())
    assert list(trace.uses) == ["filters", "position", "head.weight", "head.bias"]
    assert [ticks[0] for ticks in trace.uses.values()] == sorted(t[0] for t in trace.uses.values())


def test_calls_know_their_resolution_wherever_the_channels_are() -> None:
    first_and_last = {}
    for name in ("resnet18", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"):
        with torch.device("meta"):
            model = timm.create_model(name)
        calls = {call.module: call for call in observe(model).calls}
        body = "layer4" if name == "resnet18" else "layers.3" if "swin" in name else "blocks.11"
        first_and_last[name] = (
            calls[""].input.area,
            calls[body].output.area,
            calls[""].output.width,
        )
    assert first_and_last == {
        "resnet18": (224 * 224, 49, 1000),
        "swin_tiny_patch4_window7_224": (224 * 224, 49, 1000),
        "vit_tiny_patch16_224": (224 * 224, 197, 1000),
    }


def test_nothing_of_the_model_changes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU())
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    seen: list[object] = []
    model[0].register_forward_hook(lambda *args: seen.append(args))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.random.get_rng_state()

    observe(model)

    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert [module.training for module in model] == [True, False, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    assert seen == []
    assert [len(module._forward_hooks) for module in model.modules()] == [0, 1, 0, 0, 0]
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_a_meta_copy_takes_plain_tensors_along_and_keeps_ties() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model[0].table = torch.ones(3)  # neither a parameter nor a buffer
    copied = meta_copy(model)
    assert copied[1].weight is copied[0].weight
    assert copied[0].table.is_meta
    assert not model[0].table.is_meta


def test_weight_norm_still_computes_its_weights() -> None:
    model = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    trace = trace_forward(real_copy(model), torch.zeros(1, 3, 8, 8))
    assert "0.weight_orig" in trace.uses


def test_a_forward_that_reads_values_is_run_for_real_and_leaves_random_state_alone() -> None:
    class Reads(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            noise = torch.rand(1)
            return super().forward(x) if (x.sum() + noise) < 1e9 else x

    model = Reads(nn.Conv2d(3, 4, 3), nn.ReLU())
    random = torch.random.get_rng_state()
    assert "0.weight" in observe(model).uses
    assert torch.equal(torch.random.get_rng_state(), random)


def test_several_arguments_and_keywords() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(2, 3), nn.Linear(4, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.left(a) + self.right(b)

    a, b = torch.zeros(1, 2), torch.zeros(1, 4)
    for given in ((a, b), {"b": b, "a": a}):
        assert list(observe(Two(), given).uses)[::2] == ["left.weight", "right.weight"]


def test_sizes_are_tried_until_one_fits() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 5))
    assert observe(model).calls[0].input.area == 28 * 28


def test_a_refused_input_is_said_with_the_models_own_words() -> None:
    with pytest.raises(StagingError, match=r"ResNet refuses the example_input.*RuntimeError: "):
        observe(timm.create_model("resnet18"), torch.zeros(2, 5, 64, 64))
    only_seven = nn.Sequential(nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(StagingError, match=r"refuses images of 224/256.*\(2, 3, 224, 224\).*give"):
        observe(only_seven)


def test_on_device_copies() -> None:
    given = torch.ones(2, 3)
    copied = on_device([given], torch.device("cpu"))[0]
    assert torch.equal(copied, given)
    assert copied is not given
