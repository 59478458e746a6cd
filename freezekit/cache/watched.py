"""The weights and statistics on which features depend, and whether they are as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.cache.fingerprint import weights_digest
from freezekit.errors import CacheError, some

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

CHANGED = (
    "the frozen weights or statistics have changed since the cache was filled; fill it anew: "
    "frozen.cache(...)"
)


class Watched:
    """Tensors of a model, watched at little cost: it is asked in each step of a training.

    A tensor may be written into, get other data, be replaced by another, or lie in a module that is
    replaced. Only then its values are read. A write into `tensor.data` is not seen.

    Attributes:
        digest: Of all values.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        self._model, self._names = model, sorted(names)
        self._look_up()
        self.digest: str = weights_digest(self._tensors)
        self._seen = self._now()

    def check(self) -> None:
        """Do nothing where the values are as they were.

        Raises:
            CacheError: They are not, or one of the tensors is to be trained.
        """
        is_same = all(owner.get(key) is held for owner, key, held in self._links)
        if is_same and self._now() == self._seen:
            return
        try:
            self._look_up()
        except AttributeError as error:
            raise CacheError(CHANGED) from error
        trained = [name for name, tensor in self._tensors.items() if tensor.requires_grad]
        if trained:
            raise CacheError(
                f"{some(trained)} requires a gradient since the cache was filled, and features "
                "would not train it; use frozen.change_(...), which moves the cache too"
            )
        if weights_digest(self._tensors) != self.digest:
            raise CacheError(CHANGED)
        self._seen = self._now()

    def _look_up(self) -> None:
        """Find the tensors, and where each of them and the modules around it are held."""
        self._tensors: dict[str, Tensor] = {}
        links: dict[tuple[int, str], tuple[dict[str, Any], str, object]] = {}  # Any: as torch holds
        for name in self._names:
            *path, last = name.split(".")
            module = self._model
            for part in path:
                child = module.get_submodule(part)
                links[id(module), part] = module._modules, part, child
                module = child
            owner = module._parameters if last in module._parameters else module._buffers
            links[id(module), last] = owner, last, getattr(module, last)
            self._tensors[name] = getattr(module, last)
        self._links = list(links.values())

    def _now(self) -> list[tuple[int, int, bool]]:
        return [(t._version, t.data_ptr(), t.requires_grad) for t in self._tensors.values()]
