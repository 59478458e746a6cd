"""The model whose features `freezekit extract` computes."""

from __future__ import annotations

import hashlib
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from freezekit.cli.device import check_device
from freezekit.cli.own_code import no_exit
from freezekit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def build(text: str, *, pretrained: bool | None, image_size: int | None, device: str) -> nn.Module:
    """Return the model, with weights where it is a library's and `pretrained` is None.

    Raises:
        ModelError: The model cannot be built.
    """
    import torch

    from freezekit.model.loading import load_backbone
    from freezekit.model.own_folder import look_in_current_folder

    look_in_current_folder()
    check_device(device)
    if pretrained is None:
        pretrained = text.startswith(("timm:", "torchvision:"))
    torch.manual_seed(0)  # random weights are the same when an interrupted command goes on
    return load_backbone(text, pretrained=pretrained, image_size=image_size, device=device)


def facts(text: str) -> tuple[tuple[str, str], ...]:
    """Return what features depend on beside weights and images, once the model was built."""
    from freezekit.model.own_folder import own_files

    code = hashlib.sha256()
    files = own_files()
    for name, path in files:
        code.update(f"{name}\n".encode())
        code.update(path.read_bytes())
    return (("model", text), *((("code of the model", code.hexdigest()[:16]),) if files else ()))


@contextmanager
def running(text: str) -> Iterator[None]:
    """Run the code of a model: what it prints is no answer, and it does not end the command.

    Raises:
        ModelError: It called sys.exit(), or memory ran out.
    """
    with no_exit(text), redirect_stdout(sys.stderr):
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            from freezekit.model.out_of_memory import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"out of memory with {text!r}: try a smaller --batch-size or --image-size, or "
                "another --device"
            ) from error
