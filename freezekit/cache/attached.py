"""A model takes rows of a cache in place of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.cache.autocasting import Autocast
from freezekit.cache.fingerprint import frozen_tensors, weights_digest
from freezekit.errors import CacheError, some
from freezekit.freezing.eval_hold import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        width: Elements of a row that the model takes. Where rows of another boundary have as many,
            zeros at the end tell these from them.
        before: An earlier `forward` of the instance, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        prefix: Prefix,
        encoding: Encoding,
        image: Tensor,
        autocast: Autocast,
    ) -> None:
        self.model = model
        self.prefix = prefix
        self.encoding = encoding
        self.width = encoding.width
        self.before = model.__dict__.get("forward")
        if isinstance(self.before, TakesRows) and self.before._is_of(prefix, encoding):
            self.width = self.before.width
            self.before = self.before.before  # of the same boundary: this one takes its place
        else:
            taken = {each.width for each in _chain(self.before)}
            while self.width in taken:
                self.width += 1
        if image.dim() == 2 and image.shape[1] == self.width:
            raise CacheError(
                f"features have the shape of the input, {tuple(image.shape[1:])}, so that the "
                "model could not tell them apart; nothing is saved by a cache here"
            )
        self._autocast = autocast
        self._image = image.shape[1:], image.dtype
        self._plan: FreezePlan = model.__dict__[RECORD].plan
        self._frozen = frozen_tensors(model, self._plan)
        self._digest = weights_digest(self._frozen)
        self._versions = self._versions_now()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the forward of the model does."""
        values = [*args, *kwargs.values()]
        place = next((i for i, value in enumerate(values) if self._is_rows(value)), None)
        if place is None:
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
        if self._versions != self._versions_now():
            if weights_digest(self._frozen) != self._digest:
                raise CacheError(
                    "the frozen weights or statistics have changed since the cache was filled; "
                    "fill it anew: frozen.cache(...)"
                )
            self._versions = self._versions_now()

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
        return self._is_of(prefix, self.encoding) and self.is_valid()

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

    def _is_of(self, prefix: Prefix, encoding: Encoding) -> bool:
        mine = self.prefix.calls, self.prefix.cut, self.encoding
        return mine == (prefix.calls, prefix.cut, encoding)

    def _versions_now(self) -> list[int]:
        return [tensor._version for tensor in self._frozen.values()]

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
                "earlier. Begin a new one after each change, read without workers (num_workers=0) "
                "where the plan changes within an epoch, or train with images"
            )
        self._plan = plan


def _plan_of(model: nn.Module) -> FreezePlan | None:
    plan: FreezePlan | None = getattr(model.__dict__.get(RECORD), "plan", None)
    return plan


def _chain(forward: Any) -> Iterator[TakesRows]:
    """Yield what takes rows of a model, of all boundaries."""
    while isinstance(forward, TakesRows):
        yield forward
        forward = forward.before
