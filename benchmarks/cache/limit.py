"""The physical limit of a cached step: the rest of the model alone, with its input in memory."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from freezekit.cache.prefix import Prefix


@contextmanager
def rest_alone(
    model: nn.Module, prefix: Prefix, rows: Tensor, image: tuple[int, ...]
) -> Iterator[Callable[[], Any]]:
    """Give a forward of the rest, in which all calls of the prefix return what was made before.

    No code of freezekit runs in it. Any: what the model returns.

    Args:
        model: Not the one that takes rows.
        prefix: Of a model like it.
        rows: Features of a batch.
        image: The shape of one image.
    """
    samples = len(rows)
    counts = Counter(call.module for call in prefix.calls)
    assert all(prefix.times[name] == count for name, count in counts.items()), "the rest calls one"
    numbers = [leaf.numbers for leaf in prefix.leaves]
    parts = iter(rows[:, : sum(numbers)].split(numbers, 1))  # wider than those of other features
    values: dict[str, list[Any]] = {}
    for call in prefix.calls:
        output = prefix.outputs[call]
        is_needed = call in prefix.cut
        value = (
            output.from_rows(parts, samples)
            if is_needed
            else output.nested(output.stubs(samples, rows.device))
        )
        values.setdefault(call.module, []).append(value)
    modules = {name: model.get_submodule(name) for name in values}
    stub = torch.zeros(()).expand(samples, *image)
    try:
        for name, module in modules.items():
            vars(module)["forward"] = _answering(values[name])
        yield lambda: model(stub)
    finally:
        for module in modules.values():
            del vars(module)["forward"]


def _answering(values: list[Any]) -> Callable[..., Any]:
    following = cycle(values)
    return lambda *_args, **_options: next(following)
