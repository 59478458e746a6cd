"""A live DistributedDataParallel whose module is trained in other parts from now on.

It fixes at its construction which gradients it reduces. A parameter that is thawed later is trained
by each rank on its own, silently. The reducer is therefore built anew inside the same object, so
that whoever refers to the object, such as a trainer, need not know.
"""

from __future__ import annotations

import gc
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from freezekit.errors import FreezeError
from freezekit.schedules.stale_backward import refuse_stale_backward

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from torch import Tensor, nn

_INTERNALS = {
    "_build_params_for_reducer": ["self"],
    "_build_debug_param_to_name_mapping": ["self", "parameters"],
    "_ddp_init_helper": [
        "self",
        "parameters",
        "expect_sparse_gradient",
        "param_to_name_mapping",
        "static_graph",
    ],
}
"""The steps by which DistributedDataParallel makes a reducer when it is unpickled."""

_SETTINGS = "_comm_hooks", "bucket_bytes_cap", "process_group", "parameters_to_ignore"
"""What no argument of the constructor gives back. Without one of them, settings would be lost."""

_REFUSED: dict[str, Callable[[Any], object]] = {  # Any: DDP declares none of these attributes
    "was made with static_graph=True, which fixes what is trained; make it without": (
        lambda ddp: ddp.static_graph
    ),
    "was made with delay_all_reduce_named_params, whose buffer cannot change; make it without": (
        lambda ddp: ddp._delay_all_reduce_params
    ),
    "was made with mixed_precision, which casts what is trained; use torch.autocast instead": (
        lambda ddp: ddp.mixed_precision is not None
    ),
    "has the reducer of torch._dynamo.config.optimize_ddp = 'python_reducer', which torch.compile "
    "compiles in; leave that setting as it was": lambda ddp: ddp._use_python_reducer,
    "has parameters whose optimizer steps inside backward; step it after backward": (
        lambda ddp: any(hasattr(p, "_in_backward_optimizers") for p in ddp.module.parameters())
    ),
    "is inside no_sync(), where gradients wait to be reduced; leave it first, and change after "
    "the step of the optimizer": lambda ddp: not ddp.require_backward_grad_sync,
    "is inside its forward; change between two steps": (
        lambda _: DistributedDataParallel._active_ddp_module is not None
    ),
    "is inside a backward; change between two steps": (
        lambda _: torch._C._current_graph_task_id() != -1
    ),
}
"""What cannot be rebuilt: what is said of it, and how it is told."""


def check_wrapper(ddp: object, model: nn.Module) -> None:
    """Refuse a wrapper that `rebuild_` could not rebuild, before anything is changed.

    Args:
        ddp: What users give: a DistributedDataParallel, or what torch.compile made of it.
        model: The model that changes: what `ddp` wraps, or a module anywhere inside.

    Raises:
        FreezeError: It is no DistributedDataParallel, wraps another model, has settings that a new
            reducer would not keep, or is in use at this moment.
    """
    inner = _uncompiled(ddp)
    if not isinstance(inner, DistributedDataParallel):
        raise FreezeError(
            f"ddp is a {type(ddp).__name__}, expected the DistributedDataParallel of "
            "torch.nn.parallel around the model; models under fully_shard need no ddp"
        )
    if all(module is not model for module in inner.modules()):
        raise FreezeError(
            f"ddp wraps another model: a {type(inner.module).__name__} that does not contain this "
            f"{type(model).__name__}; give the wrapper by which this model is trained"
        )
    missing = [name for name in _SETTINGS if not hasattr(inner, name)]
    if missing:
        raise FreezeError(
            f"DistributedDataParallel of torch {torch.__version__} has no {missing[0]!r}, without "
            "which its settings would be lost; wrap the model anew after the change, or use an "
            "older torch"
        )
    for said, is_so in _REFUSED.items():
        if is_so(inner):
            raise FreezeError(f"this DistributedDataParallel {said}")
    try:
        inner._check_reducer_finalized()
    except RuntimeError as error:
        raise FreezeError(
            "the last backward of this DistributedDataParallel did not give all gradients to the "
            "other ranks: some parameters were not used; make it with find_unused_parameters=True"
        ) from error


def rebuild_(ddp: nn.Module) -> None:
    """Make a wrapper reduce the gradients of exactly what is trained now, in place.

    Settings, communication hooks and gradients stay. The memory of a PowerSGD hook is dropped, as
    it belongs to the old buckets: its next two steps are not compressed.

    With `gradient_as_bucket_view`, gradients that exist keep the old buckets in memory until they
    are set to None. A backward of a forward from before raises.

    Args:
        ddp: A wrapper that `check_wrapper` accepted. All ranks call it alike.

    Raises:
        FreezeError: The wrapper would reduce nothing. It is as before.
    """
    inner: Any = _uncompiled(ddp)  # Any: DDP declares none of its attributes
    trained = [
        parameter
        for name, parameter in inner.module.named_parameters()
        if parameter.requires_grad and name not in inner.parameters_to_ignore
    ]
    if not trained:
        raise FreezeError(
            "nothing would be trained that this DistributedDataParallel reduces; train some of the "
            f"{len(list(inner.module.parameters()))} parameters of its "
            f"{type(inner.module).__name__}"
        )
    hooks = list(inner._comm_hooks)
    built_in = None if hooks else inner._get_ddp_logging_data().get("comm_hook")
    # First, so that its autograd hooks go and its buckets and the new ones do not add up.
    inner._remove_autograd_hooks()
    inner.logger = None
    del inner.reducer
    if _has_known_internals():
        _rebuild_in_place(inner)
    else:
        _take_over_anew(inner)
    for hook, state in hooks:
        inner.register_comm_hook(state, hook)
        _restart(state)
    if built_in:
        inner._register_builtin_comm_hook(_built_in_hooks()[built_in])
    refuse_stale_backward(inner, trained)


def _rebuild_in_place(ddp: Any) -> None:  # Any: as above
    """Do as `DistributedDataParallel.__setstate__` does."""
    parameters, expect_sparse_gradient = ddp._build_params_for_reducer()
    names = ddp._build_debug_param_to_name_mapping(parameters)
    ddp._comm_hooks = []
    ddp._has_rebuilt_buckets = False
    ddp._ddp_init_helper(parameters, expect_sparse_gradient, names, ddp.static_graph)


def _take_over_anew(ddp: Any) -> None:  # Any: as above
    """Wrap the module anew with the same settings, and take over what the new wrapper made.

    This needs the public constructor alone. What belongs to the object rather than to its reducer
    stays: hooks of the module, its mode, and the state of a `join()` around the training.
    """
    accepted = inspect.signature(DistributedDataParallel).parameters
    settings = {name: getattr(ddp, name) for name in accepted if hasattr(ddp, name)}
    settings.pop("device_mesh", None)  # the process group is that of the mesh
    if "forward_sync_buffers" in accepted:
        settings.pop("broadcast_buffers", None)  # its older name, which warns
    if not getattr(ddp, "bucket_bytes_cap_default", False):
        settings["bucket_cap_mb"] = ddp.bucket_bytes_cap / 2**20
    if caps := getattr(ddp, "bucket_bytes_cap_list", None):
        settings["bucket_cap_mb_list"] = [cap / 2**20 for cap in caps]
    new = DistributedDataParallel(**settings, init_sync=False)
    kept = {*vars(torch.nn.Module()), "_join_config", "require_forward_param_sync"}
    vars(ddp).update({name: value for name, value in vars(new).items() if name not in kept})


def _has_known_internals() -> bool:
    return all(
        callable(method := getattr(DistributedDataParallel, name, None))
        and list(inspect.signature(method).parameters) == parameters
        for name, parameters in _INTERNALS.items()
    )


def _built_in_hooks() -> dict[str, object]:
    """Return the hooks that are written in C++ by their names in a wrapper's log."""
    from torch._C._distributed_c10d import BuiltinCommHookType as Kind

    return {str(kind): kind for kind in (Kind.ALLREDUCE, Kind.FP16_COMPRESS)}


def _restart(state: object) -> None:
    """Drop what a PowerSGD hook remembers of buckets that are gone; other states have no buckets.

    As at the start of a training, the first two steps are not compressed: DistributedDataParallel
    orders its buckets anew after the first.
    """
    from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState

    if isinstance(state, PowerSGDState):
        for memory in (state.error_dict, state.p_memory_dict, state.q_memory_dict):
            memory.clear()
        if state.use_error_feedback or state.warm_start:
            state.iter = min(state.iter, state.start_powerSGD_iter - 2)


def broadcast_held(
    model: nn.Module, names: Collection[str], group: distributed.ProcessGroup | None = None
) -> None:
    """Give all ranks the buffers that the first rank of a group has, of some modules.

    Statistics of norms that train differ between ranks. Where they freeze, they would differ for
    ever. Left out are buffers that are sharded, or that DistributedDataParallel was told to ignore.
    All ranks of the group must call it alike, with the same names.

    Args:
        model: The model.
        names: Names of modules in it, such as those that a plan holds in eval mode.
        group: The ranks. None stands for all.
    """
    if distributed.get_world_size(group) < 2:
        return
    modules = dict(model.named_modules())
    by_device: dict[torch.device, list[Tensor]] = {}
    for name in sorted(names):
        for buffer in modules[name].buffers(recurse=False):
            is_sharded = type(buffer).__module__.startswith("torch.distributed")
            if not (is_sharded or hasattr(buffer, "_ddp_ignored")):
                by_device.setdefault(buffer.device, []).append(buffer.detach())
    for buffers in by_device.values():
        # As bytes, in one message: any dtype, and not three messages for each of many norms.
        parts = [buffer.contiguous().reshape(-1).view(torch.uint8) for buffer in buffers]
        message = torch.cat(parts)
        distributed.broadcast(message, group=group, group_src=0)
        received = message.split([part.numel() for part in parts])
        for buffer, part in zip(buffers, received, strict=True):
            buffer.copy_(part.clone().view(buffer.dtype).view(buffer.shape))


def wrappers_of(model: nn.Module) -> Iterator[DistributedDataParallel]:
    """Yield the DistributedDataParallel around a model, which the model knows nothing of."""
    objects = gc.get_objects()
    # Hundreds of thousands of objects have some thousands of types, and a wrapper's is an ABC, for
    # which `issubclass` takes long.
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, DistributedDataParallel)}
    for value in objects if kinds else ():
        if type(value) in kinds and any(module is model for module in value.modules()):
            yield value


def _uncompiled(module: object) -> object:
    """Return the module that torch.compile wrapped, or the one given."""
    return getattr(module, "_orig_mod", module)
