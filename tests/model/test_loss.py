"""A scalar loss from whatever a model returns."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from freezekit import ModelError
from freezekit.model.loss import loss_function, loss_text, pick_logits


def test_logits_are_found_where_models_put_them() -> None:
    logits, dense, aux = torch.ones(2, 4), torch.ones(2, 4, 8, 8), torch.ones(2, 9)
    assert pick_logits(logits)[0] is logits
    assert pick_logits({"out": logits, "aux": aux})[0] is logits
    named = namedtuple("named", "logits aux_logits")(logits, aux)  # as torchvision
    assert pick_logits(named)[0] is logits
    assert pick_logits([dense])[0] is dense
    with pytest.raises(ModelError, match="no floating-point tensor of two or more dimensions"):
        pick_logits((torch.ones(3, dtype=torch.long), "text"))


def test_outputs_that_a_model_detaches_are_passed_over() -> None:
    # SimSiam returns two predictions and two detached projections.
    predicted, projected = (torch.zeros(2, width, requires_grad=True) for width in (3, 4))
    outputs = (predicted, predicted, projected.detach(), projected.detach())
    assert pick_logits(outputs) == (predicted, "output 2 of 4, shape (2, 3)")
    loss_function("image")(outputs).backward()
    assert predicted.grad is not None
    assert (
        loss_text(outputs, "image") == "cross-entropy over 3 classes of output 2 of 4, shape (2, 3)"
    )
    named = {"logits": projected.detach(), "online": predicted}
    assert pick_logits(named)[0] is predicted
    assert pick_logits({"logits": projected, "target": predicted.detach()})[0] is projected
    # A map with a gradient comes before logits without one.
    dense = torch.zeros(2, 3, 4, 4, requires_grad=True)
    assert pick_logits([dense, projected.detach()])[0] is dense
    # Where none has a gradient, as in a forward without them, the rules stay as they are.
    assert pick_logits((predicted.detach(), projected.detach()))[1] == "output 2 of 2, shape (2, 4)"


def test_a_models_own_losses_are_summed() -> None:
    output = {"boxes": torch.tensor(1.5), "classes": torch.tensor(2.0)}
    assert loss_function("detection")(output) == 3.5
    assert loss_text(output, "detection") == "sum of the model's own losses: boxes, classes"


def test_auxiliary_classifiers_count_with_their_weight() -> None:
    named = namedtuple("named", "logits aux_logits2 aux_logits1")  # as torchvision
    output = named(*(torch.zeros(2, 10) for _ in range(3)))
    assert loss_function("image")(output).item() == pytest.approx(1.8 * torch.tensor(10.0).log())
    assert loss_text(output, "image").endswith("shape (2, 10) + 0.4 x that of 2 auxiliary")


def test_labels_stay_the_same_from_step_to_step() -> None:
    loss, output = loss_function("image"), torch.randn(8, 50)
    assert loss(output) == loss(output)
    flow, fields = loss_function("flow"), [torch.randn(1, 2, 8, 8) for _ in range(3)]
    assert flow(fields) == flow(fields)
    assert loss_text(fields, "flow") == "mean absolute error of 3 flow estimates"


def test_no_flow_no_loss() -> None:
    with pytest.raises(ModelError, match="returned no flow field"):
        loss_function("flow")(torch.ones(2, 3))
