"""A batch proves that the model gives the same on features as on images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from freezekit.cache.calls import outputs_of
from freezekit.cache.layout import same
from freezekit.cache.samples import with_image
from freezekit.errors import CacheError
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from torch import nn

    from freezekit.cache.attached import TakesRows
    from freezekit.cache.source import Source

# Any in this file: a model may take and return anything.


def prove(source: Source, takes: TakesRows, batch: Any, samples: int) -> None:
    """Run a batch with features as a training does, and compare all outputs with those of images.

    What the loop of the user does to images, it does to features too; here it shows. It also shows
    which argument of the model the features are.

    Args:
        source: Of images.
        takes: Lets the model take features, in their exact type.
        batch: With images.
        samples: Of the batch.

    Raises:
        CacheError: Outputs differ, or the model was not given the features.
    """
    model = source.model
    state, buffers = RandomState.now(cuda_devices(model)), _buffers(model)
    with torch.no_grad():
        found = outputs_of(model, lambda: source.run(batch), takes.prefix.cut)
        rows = takes.padded(takes.prefix.rows(found, samples))
        given = rows if source.only_image else with_image(batch, source.place, rows)
        _restore(state, buffers)
        wanted = source.run(batch)
        _restore(state, buffers)
        got, raised = None, ""
        with takes.looking_for(rows):
            try:
                got = source.run(given)
            except CacheError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever code does with what is no image
                raised = f" ({type(error).__name__}: {error!s:.200})"
        _restore(state, buffers)
    if takes.argument is None:
        raise CacheError(
            f"the model was not given the features as they are{raised}: call= must give it what "
            "lies where the image was. Say where that is, such as image=1, and prepare images in "
            "the data set, or only where they have more than two dimensions"
        )
    if raised:
        raise CacheError(f"the model does not run on a batch of features{raised}")
    if not _are_same(wanted, got):
        raise CacheError(
            "the model gives other outputs on features than on images. If call= prepares images, "
            "prepare them in the data set; if an output of the model is made of the image itself, "
            "or of frozen values in passing, the prefix cannot be cached"
        )


def _are_same(one: Any, other: Any) -> bool:
    first, second = list(tensors(one)), list(tensors(other))
    return len(first) == len(second) and all(map(same, first, second))


def _buffers(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(buffer, buffer.clone()) for buffer in model.buffers()]


def _restore(state: RandomState, buffers: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    state.restore()
    for buffer, value in buffers:
        if not torch.equal(buffer, value):
            buffer.copy_(value)


def feeding(source: Source, takes_from: dict[str, torch.Tensor], batch: Any, cut: Any) -> list[str]:
    """Return the buffers on which features depend, beside known tensors.

    Args:
        source: Of images.
        takes_from: The tensors that are known to matter, by name.
        batch: With images.
        cut: The calls whose outputs are the features.
    """
    model = source.model
    others = {
        name: buffer
        for name, buffer in model.named_buffers()
        if name not in takes_from and buffer.is_floating_point()
    }

    def features() -> Any:
        return outputs_of(model, lambda: source.run(batch), cut)

    def moves(some: list[str]) -> bool:
        saved = _buffers(model)
        for name in some:
            others[name].add_(0.1)
        after = features()
        for buffer, value in saved:
            if not torch.equal(buffer, value):
                buffer.copy_(value)
        return not all(map(_are_same, before.values(), after.values()))

    with torch.no_grad():
        before = features()
        if not others or not moves(list(others)):
            return []
        return [name for name in others if moves([name])]
