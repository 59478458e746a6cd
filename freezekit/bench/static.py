"""Figures that need no real step: memory and FLOPs under fake tensors, deterministic."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from freezekit.bench.fake import make_fake
from freezekit.bench.memory import traced_memory
from freezekit.bench.results import Flops, Memory, Parameters
from freezekit.bench.workload import Session, load, prepare

if TYPE_CHECKING:
    from torch import nn

    from freezekit.bench.results import Workload
    from freezekit.registry import Registry


def static_figures(
    workload: Workload, spec: str, registry: Registry | None = None
) -> tuple[Parameters, Memory, Flops]:
    """Count a strategy's parameters, memory and FLOPs without running it for real.

    The model is built on `meta`, so that no weights are needed, turned into fake tensors on the
    workload's device, frozen, and stepped: figures are those of the second step. The memory's
    peak is `predicted_peak_bytes`; only a real step can tell `peak_bytes`.

    Raises:
        FreezekitError: The model cannot be had, or the strategy refuses it.
        RuntimeError: The model's forward depends on the values of tensors, or the workload's device
            is "cuda" on a machine without.

    Example:
        >>> from freezekit.bench.results import Workload
        >>> tiny = Workload("torchvision:shufflenet_v2_x0_5", batch_size=2, image_size=32)
        >>> parameters, memory, flops = static_figures(tiny, "full")
        >>> parameters.total, parameters.trainable, memory.gradients_bytes
        (1366792, 1366792, 5467168)
        >>> flops.backward > flops.forward > 10**6
        True
    """
    # Weights carry no information here, and "meta" takes none.
    model = load(dataclasses.replace(workload, pretrained=False), "meta")
    if workload.channels_last:  # before there are fake tensors: modules cannot convert those
        model.to(memory_format=torch.channels_last)
    with make_fake(model, workload.device):
        session = prepare(dataclasses.replace(workload, channels_last=False), model, spec, registry)
        if workload.channels_last:
            session.inputs = session.inputs.contiguous(memory_format=torch.channels_last)
        memory, _ = traced_memory(session)
        flops = count_flops(session)
    predicted = dataclasses.replace(
        memory, predicted_peak_bytes=memory.tracker_peak_bytes, tracker_peak_bytes=None
    )
    return count_parameters(model), predicted, flops


def count_parameters(model: nn.Module) -> Parameters:
    """Count elements, tied parameters once; the digest is over the sorted trainable names.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(3, 4)
        >>> _ = model.weight.requires_grad_(False)
        >>> count_parameters(model)
        Parameters(total=16, trainable=4, trainable_digest='...')
    """
    trainable = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    names = "\n".join(sorted(trainable))
    return Parameters(
        total=sum(p.numel() for p in model.parameters()),
        trainable=sum(trainable.values()),
        trainable_digest=hashlib.sha256(names.encode()).hexdigest()[:12],
    )


def count_flops(session: Session) -> Flops:
    """Count the floating-point operations of one step, forward (with the loss) and backward.

    Those of matrix products, convolutions and attention, as torch's `FlopCounterMode` has it; a
    multiply-add is two.
    """
    with FlopCounterMode(display=False) as forward:
        loss = session.loss()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    session.optimizer.zero_grad(set_to_none=True)
    return Flops(forward.get_total_flops(), backward.get_total_flops())
