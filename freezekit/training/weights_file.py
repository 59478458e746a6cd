"""The weights of a trained model as a safetensors file, with what one needs to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

import freezekit
from freezekit.errors import OutputError
from freezekit.results.files import check_target, write_bytes

if TYPE_CHECKING:
    from freezekit.training.loop import Trained


def check_weights_target(path: str | Path) -> None:
    """Raise unless weights could be written there; a file of somebody else is not replaced.

    Raises:
        OutputError: They could not.
    """
    check_target(path)
    if not str(path).endswith(".safetensors"):
        raise OutputError(f"cannot write {str(path)!r}: expected a name that ends in .safetensors")
    if Path(path).exists() and "freezekit" not in _metadata(path):
        raise OutputError(
            f"cannot write {str(path)!r}: freezekit did not write the file that is there; name "
            "another one, or remove it"
        )


def write_weights(done: Trained, path: str | Path) -> None:
    """Write the weights of a model, whole or not at all.

    The tensors are those of `model.state_dict()`, so that `load_state_dict` reads them into a model
    of the same text and number of classes. The metadata are texts: "model", "classes" (a JSON
    list), "preprocessing", "strategy", "schedule", "recipe" and "figures" (JSON), "data" (the
    digest of the images), and "freezekit", its version.

    Args:
        done: What `train` returned.
        path: Ends in ".safetensors".

    Raises:
        OutputError: The file cannot be written.
    """
    trial = done.trial
    metadata = {
        "format": "pt",
        "freezekit": freezekit.__version__,
        "model": trial.recipe.model,
        "classes": json.dumps(done.data.classes),
        "preprocessing": done.preprocessing,
        "strategy": trial.recipe.strategy,
        "schedule": trial.recipe.schedule or "",
        "recipe": msgspec.json.encode(trial.recipe).decode(),
        "figures": json.dumps(trial.epochs[-1].val if trial.epochs else {}),
        "data": done.data.digest,
    }
    # Cloned: tied tensors share memory, which the format does not allow.
    tensors = {n: t.detach().cpu().clone() for n, t in done.model.state_dict().items()}
    write_bytes(path, save({n: t.contiguous() for n, t in tensors.items()}, metadata))


def _metadata(path: str | Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}
