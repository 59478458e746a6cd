"""The warning of a model without a head that a strategy means to train."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from freezekit.errors import FreezekitError
from freezekit.spec.grammar import format_named

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from freezekit.backbone.view import Backbone
    from freezekit.spec.strategy import Strategy


def headless_warning(
    backbone: Backbone, sums: Sequence[Sequence[Strategy]], frozen: Set[str]
) -> tuple[str, ...]:
    """Return a warning if a head is to be trained, and none with parameters was found.

    There is none if the last stage with parameters is trained as a whole, or if `|` unites the
    strategies with one that trains the last layer.

    Args:
        backbone: The model.
        sums: The strategies of the spec: the sums that `|` unites.
        frozen: Names of the parameters that the whole spec freezes.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> from freezekit_strategies import NormOnly
        >>> view = Backbone(load_backbone("timm:resnet18", num_classes=0, device="meta"))
        >>> (text,) = headless_warning(view, [[NormOnly()]], view.parameters.keys())
        >>> text.partition(";")[0]
        'norm-only trains the head too, but ResNet has no head with parameters'
    """
    training = [s for strategies in sums for s in strategies if s.trains_head]
    with suppress(FreezekitError):  # a strategy that needs stages has said why there are none
        if training and not backbone.head.parameters:
            layer = backbone.last_layer
            inside = {n for n in backbone.parameters if f"{n}.".startswith(f"{layer}.")}
            (*_, last) = (stage for stage in backbone.stages if stage.parameters)
            to_train = inside if len(sums) > 1 else inside.union(last.parameters)
            if not frozen.isdisjoint(to_train):
                return (_text(backbone, training[0], layer, frozen & inside, inside),)
    return ()


def _text(
    backbone: Backbone, strategy: Strategy, layer: str, frozen: Set[str], inside: Set[str]
) -> str:
    state = "it is frozen" if frozen == inside else "a part of it is frozen"
    pattern = f"{layer}.*" if layer in backbone.modules else layer
    taken = ", ".join(backbone.head.modules) or "nothing"
    without = f"; if there is no head, say '{_headless(strategy)}'" if _has_option(strategy) else ""
    return (
        f"{strategy.name} trains the head too, but {type(backbone.model).__name__} has no head "
        f"with parameters; what was taken for the head is {taken}. The last layer is {layer!r}, "
        f"and {state if frozen else 'it is trained'}. If the head is new, train it too: "
        f"'{format_named(strategy)} | by-name:glob={pattern},invert=true' trains the last layer"
        f"{without}"
    )


def _has_option(strategy: Strategy) -> bool:
    return "head" in vars(strategy)


def _headless(strategy: Strategy) -> str:
    text = format_named(strategy)
    return f"{text}{',' if ':' in text else ':'}head=false"
