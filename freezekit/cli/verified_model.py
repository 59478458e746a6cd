"""The model that `freezekit verify` verifies, its inputs and its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.cli.device import check_device

if TYPE_CHECKING:
    from torch import nn

    from freezekit.model.loss import LossFunction


def build(
    text: str,
    *,
    seed: int,
    device: str,
    batch_size: int,
    image_size: int | None,
    num_classes: int | None,
    pretrained: bool,
    rank: int = 0,
) -> tuple[nn.Module, tuple[Any, ...]]:  # Any: whatever the model takes
    """Return the model and a synthetic batch for it; each rank has its own batch.

    Raises:
        ModelError: The model cannot be built.
    """
    import torch

    from freezekit.model.loading import load_backbone
    from freezekit.model.own_folder import look_in_current_folder
    from freezekit.model.tasks import make_inputs
    from freezekit.staging.input_shape import shape_taken

    look_in_current_folder()
    check_device(device)
    torch.manual_seed(seed)
    model = load_backbone(
        text, pretrained=pretrained, num_classes=num_classes, image_size=image_size, device=device
    )
    if rank:
        torch.manual_seed(seed + rank)
    return model, make_inputs(model, shape_taken(model, text, batch_size, image_size))


def loss_of(model: nn.Module, text: str | None) -> LossFunction | None:
    """Return the user's own loss, None for the default one.

    Raises:
        ModelError: There is no such function.
    """
    if text is None:
        return None
    from freezekit.model.loss import loss_function
    from freezekit.model.tasks import task_of

    return loss_function(task_of(model), text)
