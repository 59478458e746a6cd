"""`by-name`: freeze parameters by their names."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone

_LIKE_A_NORM = re.compile(r"\w*(bn|norm)\w*", re.IGNORECASE)


@dataclass(frozen=True)
class ByName(Strategy):
    r"""Freeze the parameters whose dotted name contains a substring, or matches a glob or a regex.

    Weights: parameters that match are frozen. With `invert`, those that do not match are frozen.
    Running statistics: fixed in modules whose parameters are all frozen. Randomness: off in the
    same modules.

    A name does not tell the type of a layer. If a pattern looks like the name of a norm and misses
    norm layers of the model, a warning gives their number. `batch-norm` finds them by type.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> sorted(plan(model, "by-name:contains=fc|conv1.,invert=true").frozen)[:2]
        ['bn1.bias', 'bn1.weight']
        >>> len(plan(model, r"by-name:regex=^layer[12]\.").frozen)
        27
    """

    name: ClassVar[str] = "by-name"
    summary: ClassVar[str] = "freeze parameters by substring, glob or regex of their name"

    contains: Annotated[tuple[str, ...], "freeze names that contain any of these"] = ()
    glob: Annotated[tuple[str, ...], "freeze names that match any of these: 'layer1.*'"] = ()
    regex: Annotated[str | None, "freeze names in which this regex is found"] = None
    invert: Annotated[bool, "freeze the names that do not match instead"] = False

    def __post_init__(self) -> None:
        if not (self.contains or self.glob or self.regex):
            raise ValueError("give one of contains, glob, regex, as in 'by-name:contains=bn'")
        if isinstance(self.contains, str) or isinstance(self.glob, str):
            raise ValueError("contains and glob are tuples of texts, as in contains=('bn',)")
        if "" in self.contains:
            raise ValueError("contains has an empty substring, and every name contains that")
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ValueError(f"regex {self.regex!r} is not valid: {error}") from None

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return self.invert

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the parameters that match. A tied parameter matches by any of its names."""
        names = backbone.parameters.keys()
        matched = {
            name
            for name, info in backbone.parameters.items()
            if any(self._matches(n) for n in (name, *info.aliases))
        }
        frozen = names - matched if self.invert else matched
        return FreezePlan(
            frozen,
            notes=[
                f"by-name: {len(matched)} of {len(names)} parameters matched, {len(frozen)} frozen"
            ],
            warnings=[*self._nothing(matched), *self._missed_norms(backbone, matched)],
        )

    def _matches(self, name: str) -> bool:
        return (
            any(part in name for part in self.contains)
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.glob)
            or bool(self.regex and re.search(self.regex, name))
        )

    def _patterns(self) -> list[str]:
        return [*self.contains, *self.glob, *([self.regex] if self.regex else [])]

    def _nothing(self, matched: set[str]) -> list[str]:
        if matched:
            return []
        patterns = ", ".join(map(repr, self._patterns()))
        return [
            f"no parameter matches {patterns}; "
            "`freezekit show MODEL -s full --params` lists the names"
        ]

    def _missed_norms(self, backbone: Backbone, matched: set[str]) -> list[str]:
        # A pattern of one word, without wildcards. A path such as layer1.0.bn1 is exact on purpose.
        words = (re.sub(r"[^\w.]", "", pattern).strip(".") for pattern in self._patterns())
        if not any(_LIKE_A_NORM.fullmatch(word) for word in words):
            return []
        norms = [norm for norm in backbone.norms if norm.parameters]
        missed = [norm.name for norm in norms if matched.isdisjoint(norm.parameters)]
        if not missed:
            return []
        more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
        return [
            f"the pattern looks like a norm's, but {len(missed)} of {len(norms)} norm layers have "
            f"other names: {', '.join(missed[:3])}{more}; 'batch-norm' finds batch norms by type"
        ]


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [ByName]
