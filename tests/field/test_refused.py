"""What freezekit cannot freeze or observe: the reason is true, and says what to do."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from freezekit import FreezekitError, freeze_, plan
from tests.field.blocks import Trunk, conv
from tests.field.wrapped import Lazy


class Around(nn.Module):
    """A model around a part that was scripted or traced."""

    def __init__(self, part):
        super().__init__()
        self.stem, self.part, self.fc = conv(3, 8, 2), part, nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(self.part(self.stem(x)).mean((2, 3)))


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(model)


def scripted_part():
    """Deployed backbones: one part of the model is scripted."""
    return Around(scripted(conv(8, 12, 2)))


def scripted_whole():
    """pytorch/pytorch#26884: the whole model is scripted."""
    return scripted(nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(8192, 4)))


def traced_part():
    """Feature extractors that come as a traced file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        return Around(torch.jit.trace(conv(8, 12, 2).eval(), torch.randn(2, 8, 16, 16)))


def without_order():
    """One bare matrix: nothing comes first."""
    return nn.Linear(3 * 32 * 32, 4)


def never_runs():
    """A trunk that is called with a wrong number of channels."""
    return nn.Sequential(conv(4, 8), Trunk())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (scripted_part, "ScriptModule of torch.jit, whose layers cannot be observed"),
        (scripted_whole, "ScriptModule of torch.jit, whose layers cannot be observed"),
        (traced_part, "made by torch.jit.trace.*freeze the model from which it was made"),
        (Lazy, "lazy module.; call the model once on an input first"),
        (without_order, "has no layers that follow one another"),
        (
            never_runs,
            "refuses the example_input of shape .2, 3, 32, 32.*Invalid channel dimensions",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_reason_is_true(build, words):
    model = build()
    flags = [p.requires_grad for p in model.parameters()]
    images = torch.randn(2, 3, 32, 32)
    given = images.flatten(1) if build is without_order else images
    for function in (plan, freeze_):
        with pytest.raises(FreezekitError, match=words):
            function(model, "head-only", example_input=given)
    assert [p.requires_grad for p in model.parameters()] == flags
