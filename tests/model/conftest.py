"""Small models whose skip connection is taken by a forward hook, in the ways people write it."""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


class Hooked(nn.Module):
    """An encoder and a decoder; a subclass says how the output of `encoder[0]` gets there."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(block(3, 4), block(4, 6), block(6, 8))
        self.decoder = nn.Conv2d(8 + 4, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)
        self.register()

    def register(self) -> None:
        raise NotImplementedError

    def skip(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.encoder(x), scale_factor=4)
        return self.head(self.decoder(torch.cat([x, self.skip()], 1)).relu())


class KeyedByModule(Hooked):
    def register(self) -> None:
        self.kept: dict[nn.Module, Tensor] = {}
        self.encoder[0].register_forward_hook(self.keep)

    def keep(self, module: nn.Module, _: Any, output: Tensor) -> None:
        self.kept[module] = output

    def skip(self) -> Tensor:
        return self.kept[self.encoder[0]]


class Hook:
    """As fastai's: it holds the function, the handle and the output."""

    def __init__(self, module: nn.Module, function: Any) -> None:
        self.function = function
        self.handle = module.register_forward_hook(self.run)
        self.stored: Any = None

    def run(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.stored = self.function(module, args, output)


class ObjectOfItsOwn(Hooked):
    def register(self) -> None:
        self.hooks = [Hook(self.encoder[0], lambda _module, _args, output: output)]

    def skip(self) -> Tensor:
        return self.hooks[0].stored


class ClosureOverModel(Hooked):
    def register(self) -> None:
        def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
            self.kept = output

        self.encoder[0].register_forward_hook(keep)

    def skip(self) -> Tensor:
        return self.kept


class ClosuresOverDict(Hooked):
    def register(self) -> None:
        kept: dict[str, Tensor] = {}
        self.encoder[0].register_forward_hook(lambda *given: kept.update(skip=given[-1]))
        self.get = lambda: kept["skip"]

    def skip(self) -> Tensor:
        return self.get()


class DefaultArgument(Hooked):
    def register(self) -> None:
        self.kept: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: Tensor, kept: Any = self.kept) -> None:
            kept.append(output)

        self.encoder[0].register_forward_hook(keep)

    def skip(self) -> Tensor:
        return self.kept.pop()


def put(kept: dict[str, Tensor], name: str, *given: Any) -> None:
    kept[name] = given[-1]


class PartialFunction(Hooked):
    def register(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self.encoder[0].register_forward_hook(functools.partial(put, self.kept, "skip"))

    def skip(self) -> Tensor:
        return self.kept["skip"]


ACTIVATIONS: dict[str, Tensor] = {}


def keep_as(name: str) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
        ACTIVATIONS[name] = output

    return hook


class GlobalDict(Hooked):
    def register(self) -> None:
        self.encoder[0].register_forward_hook(keep_as("skip"))

    def skip(self) -> Tensor:
        return ACTIVATIONS["skip"]


class GlobalDictOnTheModel(GlobalDict):
    """As MiDaS keeps it."""

    def register(self) -> None:
        super().register()
        self.activations = ACTIVATIONS

    def skip(self) -> Tensor:
        return self.activations["skip"]


last: Any = None


def remember(_module: nn.Module, _args: Any, output: Tensor) -> None:
    global last  # some do
    last = output


class GlobalVariable(Hooked):
    def register(self) -> None:
        self.encoder[0].register_forward_hook(remember)

    def skip(self) -> Tensor:
        return last


class ClassVariable(Hooked):
    def register(self) -> None:
        self.encoder[0].register_forward_hook(self.keep)

    def keep(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        ClassVariable.kept = output

    def skip(self) -> Tensor:
        return ClassVariable.kept


class Store:
    def __init__(self) -> None:
        self.outputs: dict[nn.Module, Tensor] = {}

    def __call__(self, module: nn.Module, _args: Any, output: Tensor) -> None:
        self.outputs[module] = output


STORE = Store()


class GlobalObject(Hooked):
    def register(self) -> None:
        self.encoder[0].register_forward_hook(STORE)

    def skip(self) -> Tensor:
        return STORE.outputs[self.encoder[0]]


def class_in_a_function() -> Hooked:
    kept: dict[str, Tensor] = {}
    latest: Any = None

    class Inside(Hooked):
        def register(self) -> None:
            def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
                nonlocal latest
                latest = kept["skip"] = output

            self.encoder[0].register_forward_hook(keep)

        def skip(self) -> Tensor:
            return (latest + kept["skip"]) / 2

    return Inside()


class AttributeOfTheFunction(Hooked):
    def register(self) -> None:
        def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
            keep.stored = output

        self.encoder[0].register_forward_hook(keep)
        self.keep = keep

    def skip(self) -> Tensor:
        return self.keep.stored


class OnTheModule(Hooked):
    def register(self) -> None:
        self.encoder[1].register_forward_pre_hook(self.keep, with_kwargs=True)

    def keep(self, module: nn.Module, args: Any, _kwargs: Any) -> None:
        module.kept = args[0]

    def skip(self) -> Tensor:
        return self.encoder[1].kept


class ForwardOfTheInstance(ClosureOverModel):
    def register(self) -> None:
        super().register()
        model, inner = self, self.forward

        def forward(self: nn.Module, x: Tensor) -> Tensor:
            assert self is model
            return inner(x) * 2

        self.forward = types.MethodType(forward, self)


class ChangesOutputs(Hooked):
    def register(self) -> None:
        self.gain = nn.Parameter(torch.full((4, 1, 1), 3.0))
        self.kept = nn.Identity()
        self.encoder[0].register_forward_hook(lambda _module, _args, output: output * self.gain)
        self.encoder[0].register_forward_hook(lambda _m, _a, output: setattr(self, "on", [output]))

    def skip(self) -> Tensor:
        return self.on.pop()


class OfAnOuterModule(nn.Module):
    """The hooks are methods of a module around the one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ClosureOverModel()
        self.large = nn.Linear(300, 300)
        self.seen: list[Tensor] = []
        self.inner.encoder[0].register_forward_hook(self.see)

    def see(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        self.seen.append(output)
        return output + self.large.bias.mean()


def hooks_in_a_script() -> Hooked:
    """Return a model whose hooks find it by a global name."""
    text = "lambda m, a, output: setattr(net, 'kept', output)"
    globals()["net"] = net = ClosureOverModel()
    net.encoder[0]._forward_hooks.clear()
    net.encoder[0].register_forward_hook(eval(text))
    return net


MAKERS = [
    KeyedByModule,
    ObjectOfItsOwn,
    ClosureOverModel,
    ClosuresOverDict,
    DefaultArgument,
    PartialFunction,
    GlobalDict,
    GlobalDictOnTheModel,
    GlobalVariable,
    ClassVariable,
    GlobalObject,
    class_in_a_function,
    AttributeOfTheFunction,
    OnTheModule,
    ForwardOfTheInstance,
    ChangesOutputs,
    lambda: OfAnOuterModule().inner,
    hooks_in_a_script,
]
NAMES = [getattr(make, "__name__", "") for make in MAKERS]


@pytest.fixture(params=MAKERS, ids=NAMES)
def make(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    """Each of the ways to take a skip by a hook."""
    return request.param


@pytest.fixture
def hooked() -> types.ModuleType:
    """This file: its classes, and the variables in which hooks keep outputs."""
    return sys.modules[__name__]
