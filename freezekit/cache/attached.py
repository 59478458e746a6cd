"""A model takes rows of a cache in place of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.cache.fingerprint import frozen_tensors, weights_digest
from freezekit.errors import CacheError, some
from freezekit.freezing.eval_hold import RECORD

if TYPE_CHECKING:
    from freezekit.cache.prefix import Prefix
    from freezekit.freezing.plan import FreezePlan

# Any in this file: a model may take and return anything.


class TakesRows:
    """Replaces the `forward` of a model: a call with rows skips the prefix, any other is as ever.

    It is an attribute of the instance, so that deepcopy and pickle copy it with the model.

    Attributes:
        model: The model.
        prefix: What is skipped.
        before: An earlier `forward` of the instance, or None.
    """

    def __init__(self, model: nn.Module, prefix: Prefix, image: Tensor) -> None:
        self.model = model
        self.prefix = prefix
        self.before = model.__dict__.get("forward")
        if isinstance(self.before, TakesRows) and self.before.prefix.numbers == prefix.numbers:
            self.before = self.before.before  # of the same boundary: this one takes its place
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
        shape, dtype = self._image
        stub = torch.full((), float("nan"), dtype=dtype, device=rows.device)
        values[place] = stub.expand(len(rows), *shape)
        given = dict(zip(kwargs, values[len(args) :], strict=True))
        return self.prefix.run(
            self.model, lambda: self._forward(*values[: len(args)], **given), rows
        )

    def check(self) -> None:
        """Refuse to go on where the frozen part is no longer as it was when the cache was filled.

        Raises:
            CacheError: It trains now, or its weights or statistics have other values.
        """
        plan: FreezePlan | None = getattr(self.model.__dict__.get(RECORD), "plan", None)
        if plan is None or plan is not self._plan:
            self._check_plan(plan)
        if self._versions != (versions := self._versions_now()):
            if weights_digest(self._frozen) != self._digest:
                raise CacheError(
                    "the frozen weights or statistics have changed since the cache was filled; "
                    "fill it anew: frozen.cache(...)"
                )
            self._versions = versions

    def attach(self) -> None:
        """Let the model take rows."""
        self.model.__dict__["forward"] = self

    def detach(self) -> None:
        """Let the model be as before."""
        if self.model.__dict__.get("forward") is not self:
            return
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
            and value.shape[1] == self.prefix.numbers
            and value.is_floating_point()
        )

    def _versions_now(self) -> list[int]:
        return [tensor._version for tensor in self._frozen.values()]

    def _check_plan(self, plan: FreezePlan | None) -> None:
        modules = dict(self.model.named_modules())
        names = sorted({call.module for call in self.prefix.calls})
        trained = [
            name
            for name in names
            if any(p.requires_grad for p in modules[name].parameters())
            or any(m.training for m in modules[name].modules() if any(True for _ in m.buffers()))
        ]
        if plan is None or trained:
            raise CacheError(
                f"the cache was filled with {some(trained or names)} frozen, and this is trained "
                "now; fill it anew, frozen.cache(...), or train with images"
            )
        self._plan = plan
