"""FLOPs of one forward, on shapes alone and where a forward needs values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from freezekit.errors import StagingError
from freezekit.model.flops import RECURRENT, flop_counter, forward_flops

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS, BATCH, WIDTH, HIDDEN = 7, 2, 16, 12


class Packed(nn.Module):
    """Reads how long each sequence is, so that it does not run on shapes alone."""

    def __init__(self, make: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rnn = make(WIDTH, HIDDEN, batch_first=True, bidirectional=True)
        self.attention = nn.TransformerEncoderLayer(2 * HIDDEN, 4, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = (x[:, :, 0] < torch.inf).sum(1).tolist()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.attention(outputs)


@pytest.mark.parametrize(("make", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_count_as_their_matrix_products(
    make: Callable[..., nn.Module], gates: int
) -> None:
    model, given = make(WIDTH, HIDDEN, batch_first=True), torch.ones(BATCH, STEPS, WIDTH)
    expected = 2 * BATCH * STEPS * gates * HIDDEN * (WIDTH + HIDDEN)
    assert forward_flops(model, given) == {"": expected}
    on_meta = make(WIDTH, HIDDEN, batch_first=True, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_meta(given.to("meta"))
    assert counter.get_total_flops() == expected


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_forward_that_needs_values_has_the_same_flops(make: Callable[..., nn.Module]) -> None:
    model, given = Packed(make), torch.ones(BATCH, STEPS, WIDTH)
    found = forward_flops(model.eval(), given)
    rnn = model.rnn(given)[0]
    assert found["rnn"] == forward_flops(model.rnn, given)[""]
    assert found["attention"] == forward_flops(model.attention, rnn)[""]


@pytest.mark.parametrize("layers", [1, 2])
def test_the_fused_operator_of_an_lstm_counts_forward_and_backward(layers: int) -> None:
    given = torch.ones(STEPS, BATCH, WIDTH, requires_grad=True)
    model = nn.LSTM(WIDTH, HIDDEN, layers, bidirectional=True)
    with FlopCounterMode(display=False, custom_mapping=dict(RECURRENT)) as forward:
        loss = model(given)[0].sum()
    with FlopCounterMode(display=False, custom_mapping=dict(RECURRENT)) as backward:
        loss.backward()
    assert forward.get_total_flops() == forward_flops(model, given)[""] > 0
    assert backward.get_total_flops() == 2 * forward.get_total_flops()


def test_a_refused_input_is_told() -> None:
    with pytest.raises(StagingError, match=r"FLOPs of Linear cannot .*RuntimeError.*parameters"):
        forward_flops(nn.Linear(4, 2), torch.ones(1, 3))


def test_a_view_made_without_gradients_counts_in_a_training_step() -> None:
    class Reads(nn.Linear):
        """Gives a layer a view of a weight of its own."""

        def __init__(self) -> None:
            super().__init__(4, 4)
            self.inner = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                target = self.inner(self.weight.view(4, 4))
            return self.inner(super().forward(x)) + target

    model, given = Reads(), torch.ones(4, 4)
    with flop_counter(model) as counter:
        model(given).sum().backward()
    forward = 2 * 4 * (16 + 8 + 8)
    assert forward_flops(model, given) == {"": forward, "inner": 2 * 4 * 16}
    assert counter.get_total_flops() > forward
