"""A model takes rows of a cache in place of images."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.cache.autocasting import Autocast
from freezekit.cache.watched import Watched
from freezekit.errors import CacheError, some
from freezekit.freezing.eval_hold import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from freezekit.cache.encoding import Encoding
    from freezekit.cache.prefix import Prefix
    from freezekit.freezing.plan import FreezePlan

# Any in this file: a model may take and return anything.


class TakesRows:
    """Replaces the `forward` of a model: a call with rows skips the prefix, any other is as ever.

    It is an attribute of the instance, so that deepcopy and pickle copy it with the model.

    Attributes:
        model: The model.
        prefix: What is skipped.
        encoding: How rows are stored.
        width: Elements of a row that the model takes. Where other features have as many, zeros at
            the end tell these from them.
        argument: The argument of the forward that is the image, by its name or number; `prove`
            finds it.
        before: An earlier `forward` of the instance, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        prefix: Prefix,
        encoding: Encoding,
        image: Tensor,
        autocast: Autocast,
        names: Iterable[str],
    ) -> None:
        self.model = model
        self.prefix = prefix
        self.encoding = encoding
        self.argument: int | str | None = None
        self._plan: FreezePlan = model.__dict__[RECORD].plan
        self._watched = Watched(model, names)
        key = (encoding, prefix.cut, prefix.leaves, self._watched.digest)
        self.width: int = _width_of(key, encoding.width)
        self.before = model.__dict__.get("forward")
        if isinstance(self.before, TakesRows) and self.before.width == self.width:
            self.before = self.before.before  # of the same features: this one takes its place
        if image.dim() == 2 and image.shape[1] == self.width:
            raise CacheError(
                f"features have the shape of the input, {tuple(image.shape[1:])}, so that the "
                "model could not tell them apart; nothing is saved by a cache here"
            )
        self._autocast = autocast
        self._image = image.shape[1:], image.dtype
        parameters = inspect.signature(type(model).forward).parameters.values()
        self._names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        self._looks_for: Tensor | None = None

    @property
    def digest(self) -> str:
        """Of the weights and statistics that features depend on."""
        return self._watched.digest

    def padded(self, rows: Tensor) -> Tensor:
        """Return stored rows as samples of the data set hold them: zeros fill them to the width."""
        return nn.functional.pad(rows, (0, self.width - rows.shape[-1]))

    @contextmanager
    def looking_for(self, rows: Tensor) -> Iterator[None]:
        """Let the model take rows within a context, and see which argument they are."""
        attached = self.model.__dict__.get("forward")
        self._looks_for = rows
        self.attach()
        try:
            yield
        finally:
            self._looks_for = None
            self.model.__dict__.pop("forward")
            if attached is not None:
                self.model.__dict__["forward"] = attached

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the forward of the model does."""
        values = [*args, *kwargs.values()]
        labels = [*self._labels(len(args)), *kwargs]
        if self._looks_for is not None:
            self._look(labels, values)
        place = labels.index(self.argument) if self.argument in labels else None
        if place is None or not self._is_rows(values[place]):
            if place is not None:
                self._check_foreign(values[place])
            return self._forward(*args, **kwargs)
        self.check()
        rows = values[place]
        now = Autocast.now(rows.device)
        if now != self._autocast:
            raise CacheError(
                f"autocast is {now}, and was {self._autocast} when the cache was filled; call "
                "frozen.cache(...) within the torch.autocast of the training"
            )
        shape, dtype = self._image
        stub = torch.full((), float("nan"), dtype=dtype, device=rows.device)
        values[place] = stub.expand(len(rows), *shape)
        given = dict(zip(kwargs, values[len(args) :], strict=True))
        return self.prefix.run(
            self.model,
            lambda: self._forward(*values[: len(args)], **given),
            self.encoding.decode(rows[:, : self.encoding.width]),
        )

    # Not compiled: a compiled model compares what is so at each call, not at its compilation.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def check(self) -> None:
        """Refuse to go on where the frozen part is no longer as it was when the cache was filled.

        Raises:
            CacheError: It trains now, or its weights or statistics have other values.
        """
        if not self.is_of_plan_in_force():
            self._check_plan()
        self._watched.check()

    def is_valid(self) -> bool:
        """Tell whether `check` passes."""
        try:
            self.check()
        except CacheError:
            return False
        return True

    def is_of_plan_in_force(self) -> bool:
        """Tell whether the plan freezes and holds what it did when this was checked last."""
        plan = _plan_of(self.model)
        return plan is self._plan or (
            plan is not None
            and plan.frozen == self._plan.frozen
            and plan.eval_modules == self._plan.eval_modules
        )

    def goes_on_with(self, prefix: Prefix) -> bool:
        """Tell whether rows are those of a prefix that was found for the plan in force."""
        mine = self.prefix.calls, self.prefix.cut, self.prefix.leaves
        return mine == (prefix.calls, prefix.cut, prefix.leaves) and self.is_valid()

    def comes_before(self, prefix: Prefix) -> bool:
        """Tell whether the outputs of a prefix can be computed from these rows, bit for bit."""
        skipped = [f"{call.module}." for call in self.prefix.calls]
        cut = [f"{call.module}." for call in prefix.cut]
        overlap = any(one.startswith(other) for one in cut for other in skipped)
        return self.encoding.is_exact and not overlap and self.is_valid()

    def attach(self) -> None:
        """Let the model take rows."""
        self.model.__dict__["forward"] = self

    def detach(self) -> None:
        """Let the model no longer take these rows."""
        head = self.model.__dict__.get("forward")
        for later in _chain(head):
            if later.before is self:
                later.before = self.before
        if head is self:
            del self.model.__dict__["forward"]
            if self.before is not None:
                self.model.__dict__["forward"] = self.before

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.before is not None:
            return self.before(*args, **kwargs)
        return type(self.model).forward(self.model, *args, **kwargs)

    def _is_rows(self, value: Any) -> bool:
        return (
            isinstance(value, Tensor)
            and value.dim() == 2
            and value.shape[1] == self.width
            and value.is_floating_point() == self.encoding.stored.is_floating_point
        )

    def _labels(self, count: int) -> list[int | str]:
        """Return the names of the first arguments; a number where there is no name."""
        named: list[int | str] = [*self._names[:count]]
        return named + list(range(len(named), count))

    def _look(self, labels: list[int | str], values: list[Any]) -> None:
        rows = self._looks_for
        assert rows is not None
        for label, value in zip(labels, values, strict=True):
            is_alike = isinstance(value, Tensor) and value.shape == rows.shape
            if is_alike and torch.equal(value.to(rows), rows):
                self.argument = label

    def _check_foreign(self, value: Any) -> None:
        """Refuse features that nothing here takes: the model would take them for images."""
        is_flat = isinstance(value, Tensor) and value.dim() == 2 and len(self._image[0]) > 1
        if is_flat and not any(each._is_rows(value) for each in _chain(self.before)):
            raise CacheError(
                f"the model was given a tensor of shape {tuple(value.shape)} in place of images: "
                "these are no features of its frozen part as it is now; take samples of a cache "
                "that was filled with it"
            )

    def _check_plan(self) -> None:
        plan, modules = _plan_of(self.model), dict(self.model.named_modules())
        names = sorted({call.module for call in self.prefix.calls})
        trained = [
            name
            for name in names
            if any(p.requires_grad for p in modules[name].parameters())
            or any(m.training for m in modules[name].modules() if any(True for _ in m.buffers()))
        ]
        if plan is None or trained:
            raise CacheError(
                f"the features are those of {some(trained or names)} frozen, and this is trained "
                "now: they were read before the plan changed, by a data loader that began "
                "earlier. Change the plan between epochs, and begin a new data loader after each "
                "change. Within an epoch, read without workers (num_workers=0) and not ahead, as "
                "Accelerate and Trainer do; or train with images"
            )
        self._plan = plan


_WIDTHS: dict[object, int] = {}
"""The width of each kind of features in this process. Those of another boundary, of other weights,
or of another model never have the same, so that they are never taken for these."""


def _width_of(key: object, least: int) -> int:
    if key not in _WIDTHS:
        taken = set(_WIDTHS.values())
        _WIDTHS[key] = next(width for width in count(least) if width not in taken)
    return _WIDTHS[key]


def _plan_of(model: nn.Module) -> FreezePlan | None:
    plan: FreezePlan | None = getattr(model.__dict__.get(RECORD), "plan", None)
    return plan


def _chain(forward: Any) -> Iterator[TakesRows]:
    """Yield what takes rows of a model, of all boundaries."""
    while isinstance(forward, TakesRows):
        yield forward
        forward = forward.before
