"""The usual way without lean: frozen batch norms become torchvision's `FrozenBatchNorm2d`.

That class is an affine map of buffers; detectors use it. After freezing, each `nn.BatchNorm2d` that
is wholly frozen and held in eval mode is converted in place. Where there are plain ones, these
alone are converted. Otherwise those of derived types are too, as by converters that test with
`isinstance`; then a class with an activation in it, such as timm's `BatchNormAct2d`, loses the
activation.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from benchmarks.lean.sessions import fake_session, real_session
from freezekit.bench.memory import traced_memory
from freezekit.errors import FreezekitWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Workload

TOLERANCE = 1e-4  # as a share of the largest output
BUFFERS = "weight", "bias", "running_mean", "running_var"


def frozen_batch_norm(workload: Workload, spec: str) -> dict[str, Any]:
    """Return saved activations and peak with converted norms, or why there are no such figures."""
    small = real_session(msgspec.structs.replace(workload, batch_size=2), spec).model
    names = convertible(small)
    if not names:
        return {"status": "does not apply"}
    off = difference(small, names, workload)
    if not off < TOLERANCE:
        return {"status": "wrong output", "converted": len(names), "off": off}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)  # the conversion departs from the plan
        with fake_session(workload, spec, change=partial(convert, names=names)) as session:
            memory, _ = traced_memory(session)
    return {
        "status": "ok",
        "converted": len(names),
        "off": off,
        "saved_activations_bytes": memory.saved_activations_bytes,
        "peak_bytes": memory.tracker_peak_bytes,
    }


def convertible(model: nn.Module) -> list[str]:
    """Return the names of the norms to convert."""
    held = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        and not module.training
        and module.affine
        and module.track_running_stats
        and not any(p.requires_grad for p in module.parameters())
    }
    plain = [name for name, module in held.items() if type(module) is nn.BatchNorm2d]
    return plain or list(held)


def convert(model: nn.Module, names: Sequence[str]) -> None:
    """Put `FrozenBatchNorm2d` in the place of the named norms, with their tensors."""
    for name in names:
        norm = model.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
        for buffer in BUFFERS:
            tensor = getattr(norm, buffer)
            assert isinstance(tensor, Tensor)
            frozen.register_buffer(buffer, tensor.detach())
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, frozen)


def difference(model: nn.Module, names: Sequence[str], workload: Workload) -> float:
    """Convert a model and return by how much its output moved, as a share of the largest."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As after training: a new branch may end with weight 0, which hides errors in it.
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]  # not None
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    images = torch.randn(2, 3, *[workload.image_size or 224] * 2)
    with torch.no_grad():
        before = model.eval()(images)
        convert(model, names)
        after = model.eval()(images)
    return ((after - before).abs().max() / before.abs().max()).item()
