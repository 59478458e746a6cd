"""No alias of a function with a rule was forgotten.

`LeanMode` looks a rule up by the function that the model calls, and one operator has many names:
`F.relu`, `torch.relu`, `Tensor.relu`, `torch.relu_`. Two functions are aliases here if the same
arguments make them dispatch to the same operators, with the same numbers. The tests call every
public function of torch that takes tensors with the sample arguments of `SAMPLES`, and watch which
operators it dispatches to. What differs by device, or takes arguments unlike any sample, is not
found.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor
from torch._C import _nn
from torch.overrides import TorchFunctionMode, get_ignored_functions, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from freezekit.lean.rules.table import RULES

NAMESPACES = {
    "torch": torch,
    "torch.nn.functional": F,
    "torch.Tensor": Tensor,
    "torch._C._nn": _nn,  # what `torch.nn.functional` calls
    "torch.special": torch.special,
}

# Aliases without a rule, and why.
EXCEPTIONS = {
    torch.batch_norm: "takes its arguments in another order; models call F.batch_norm",
    torch.native_batch_norm: "takes them in another order, and returns the statistics too",
    torch.native_layer_norm: "returns the statistics too; models call F.layer_norm",
    torch.convolution: "takes its arguments in another order; models call F.conv2d and the like",
    Tensor.reshape_as: "to compute it again, the other tensor would have to be held",
    Tensor.resize_as: "as `reshape_as`",
    torch.kron: "multiplies views of its arguments in other shapes",
    Tensor.kron: "as above",
    torch.ravel: "returns a view of its copy; what can be computed again is no view",
    Tensor.ravel: "as above",
    torch.repeat_interleave: "a copy only where nothing is repeated",
    Tensor.repeat_interleave: "as above",
}

# Changes of shape alone: operators that copy nothing.
VIEWS = {"view", "_unsafe_view", "squeeze", "unsqueeze", "alias", "detach", "expand", "t"}


def image(*shape):
    """Return an activation: no leaf, so that functions in place accept it."""
    return torch.ones(shape, requires_grad=True) + 0.5


IMAGE, ROW, VOLUME = (2, 8, 6, 6), (2, 8, 6), (2, 8, 6, 6, 6)
MEAN, VARIANCE = torch.zeros(8), torch.ones(8)

# Arguments that functions with rules and their aliases take; a dict at the end holds keywords.
SAMPLES = {
    "an image": lambda: (image(*IMAGE),),
    "two images": lambda: (image(*IMAGE), image(*IMAGE)),
    "an image, a number": lambda: (image(*IMAGE), 0.3),
    "an image, two numbers": lambda: (image(*IMAGE), -0.3, 0.3),
    "dropout": lambda: (image(*IMAGE), 0.3, True),
    "dropout in place": lambda: (image(*IMAGE), 0.3, True, True),
    "in place": lambda: (image(*IMAGE), {"inplace": True}),
    "hardtanh in place": lambda: (image(*IMAGE), -0.3, 0.3, True),
    "1d convolution": lambda: (image(*ROW), image(8, 8, 3)),
    "2d convolution": lambda: (image(*IMAGE), image(8, 8, 3, 3)),
    "3d convolution": lambda: (image(*VOLUME), image(8, 8, 3, 3, 3)),
    "convolution": lambda: (
        *(image(*IMAGE), image(8, 8, 3, 3), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
    ),
    "1d pooling": lambda: (image(*ROW), [2]),
    "2d pooling": lambda: (image(*IMAGE), [2, 2]),
    "3d pooling": lambda: (image(*VOLUME), [2, 2, 2]),
    "padding": lambda: (image(*IMAGE), [1, 1, 1, 1]),
    "1d padding": lambda: (image(*ROW), [1, 1], "replicate"),
    "2d padding": lambda: (image(*IMAGE), [1, 1, 1, 1], "replicate"),
    "3d padding": lambda: (image(*VOLUME), [1, 1, 1, 1, 1, 1], "replicate"),
    "1d reflection": lambda: (image(*ROW), [1, 1], "reflect"),
    "2d reflection": lambda: (image(*IMAGE), [1, 1, 1, 1], "reflect"),
    "3d reflection": lambda: (image(*VOLUME), [1, 1, 1, 1, 1, 1], "reflect"),
    "1d padding, as sizes alone": lambda: (image(*ROW), [1, 1]),
    "3d padding, as sizes alone": lambda: (image(*VOLUME), [1, 1, 1, 1, 1, 1]),
    "batch norm": lambda: (image(*IMAGE), MEAN, VARIANCE),
    "batch norm of torch": lambda: (
        *(image(*IMAGE), None, None, MEAN, VARIANCE, False, 0.1, 1e-5, True),
    ),
    "native batch norm": lambda: (*(image(*IMAGE), None, None, MEAN, VARIANCE, False, 0.1, 1e-5),),
    "layer norm": lambda: (image(*IMAGE), [6]),
    "native layer norm": lambda: (image(*IMAGE), [6], None, None, 1e-5),
    "roll": lambda: (image(*IMAGE), 2, 0),
    "transposed": lambda: (image(*IMAGE).transpose(1, 2),),
    "transposed, a shape": lambda: (image(*IMAGE).transpose(1, 2), [-1]),
    "transposed, another": lambda: (image(*IMAGE).transpose(1, 2), image(576)),
}


class Called(TorchFunctionMode):
    """Records the function that `LeanMode` would see."""

    def __init__(self):
        super().__init__()
        self.function = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.function = func
        return func(*args, **(kwargs or {}))


class Diverged(Exception):  # noqa: N818  # no error
    """A function is not the alias of any function with a rule."""


class Dispatched(TorchDispatchMode):
    """Records operators with their numbers; stops as soon as they begin none of `expected`."""

    def __init__(self, expected=None):
        super().__init__()
        self.expected, self.steps = expected, ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            leaves = tree_leaves((args, kwargs or {}))
            numbers = [str(leaf) for leaf in leaves if not isinstance(leaf, (Tensor, type(None)))]
            self.steps = (*self.steps, (name, *numbers))
            if self.expected is not None and self.steps not in self.expected:
                raise Diverged
        return func(*args, **(kwargs or {}))


def run(function, sample, expected=None):
    """Return the operators that a function dispatches to, and the function that a mode sees."""
    args = SAMPLES[sample]()
    *args, kwargs = args if isinstance(args[-1], dict) else (*args, {})
    called, dispatched = Called(), Dispatched(expected)
    try:
        with dispatched, called:
            function(*args, **kwargs)
    except Exception:  # noqa: BLE001  # it does not take these arguments, or diverged
        return None, called.function
    return dispatched.steps, called.function


def name_of(function):
    return resolve_name(function) or getattr(function, "__qualname__", repr(function))


@pytest.fixture(scope="module")
def known():
    """The operators of each function with a rule: from steps to one such function."""
    found = {}
    for function in RULES:
        for sample in SAMPLES:
            steps, called = run(function, sample)
            if steps and called in RULES:
                found.setdefault(steps, function)
    return found


def public_functions():
    """Return all functions of torch that take tensors, by one of their names."""
    ignored = get_ignored_functions() - set(RULES)  # these take no tensors
    found = {}
    for space, names in NAMESPACES.items():
        for name in dir(names):
            function = getattr(names, name)
            private = name.startswith("_") and not name.startswith("__")
            if callable(function) and not isinstance(function, type) and not private:
                found.setdefault(function, f"{space}.{name}")
    return {function: name for function, name in found.items() if function not in ignored}


def test_each_function_with_a_rule_takes_some_sample():
    untried = [
        name_of(function)
        for function in RULES
        if not any(run(function, sample)[0] for sample in SAMPLES)
    ]
    assert untried == [], "add their arguments to SAMPLES"


@pytest.mark.filterwarnings("ignore")  # of functions that are deprecated, or prototypes
def test_every_alias_of_a_function_with_a_rule_has_one(known):
    beginnings = {steps[:i] for steps in known for i in range(1, len(steps) + 1)}
    missing = {}
    for function in public_functions():
        for sample in SAMPLES:
            steps, called = run(function, sample, beginnings)
            if steps in known and called not in RULES and called not in EXCEPTIONS:
                missing[name_of(called)] = name_of(known[steps])
    assert missing == {}, (
        "list them in freezekit/lean/rules/table.py, or in EXCEPTIONS with a reason"
    )
