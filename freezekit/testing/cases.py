"""How a contract runs: each test for each text or object of the author, and for each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from freezekit.errors import FreezekitError, UnknownScheduleError, UnknownStrategyError
from freezekit.testing.state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from freezekit.spec.named import Named


def run_each(
    metafunc: Any,  # Any: pytest is needed in tests alone
    given: Sequence[str | Named],
    models: Mapping[str, Callable[[], nn.Module]],
    make: Callable[[Any], object],  # Any: what is in `given`
    *,
    contract: str,
    word: str,
    example: str,
) -> None:
    """Run each test for each of `given`, and for each model if the test has a model.

    Args:
        metafunc: pytest's.
        given: Texts or objects.
        models: As in a contract.
        make: Makes the objects of a text; a text of an unknown name is one error, and not one in
            each test.
        contract: The name of the author's class.
        word: What is tested: the argument of the tests, and without its "s" the attribute.
        example: A text for messages.
    """
    if word in metafunc.fixturenames:
        assert given, f"{contract} names no {word}: set `{word}s`, as in {word}s = ({example!r},)."
        assert not isinstance(given, str), (
            f"{contract} has the text {given!r} as `{word}s`, expected a tuple: "
            f"{word}s = ({given!r},)."
        )
        for each in given:
            _ = make(each)
        metafunc.parametrize(word, given, ids=[text_of(each) for each in given])
    if "model_name" in metafunc.fixturenames:
        metafunc.parametrize("model_name", list(models))


def installed(make: Callable[[], Any], word: str) -> Any:  # Any: what `make` returns
    """Return what a text makes; a name that is unknown is said with what an author forgets.

    Raises:
        AssertionError: No plugin provides the name.
    """
    try:
        return make()
    except (UnknownStrategyError, UnknownScheduleError) as error:
        raise AssertionError(
            f"{sentence(error)} If the {word} is yours, install its plugin: pip install -e ."
        ) from error


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a model that is the same each time."""
    torch.manual_seed(0)
    return make()


def changes(model: nn.Module, before: Mapping[str, object]) -> str:
    """Return in words what is not as in `before`, which `state_of` returned; "" if nothing."""
    return ", ".join(what for what, value in state_of(model).items() if value != before[what])


def check_reason(error: FreezekitError, text: str, model: nn.Module) -> None:
    """Check that a refusal gives a reason.

    Raises:
        AssertionError: It does not.
    """
    reason = str(error)
    assert len(reason.split()) >= 3, (  # fewer words are not a sentence
        f"{text} refuses {type(model).__name__} with the message {reason!r}: say in "
        "a sentence what is missing."
    )


def sentence(message: object) -> str:
    """Return a message with a mark at its end.

    Example:
        >>> sentence("no stage"), sentence("no stage?")
        ('no stage.', 'no stage?')
    """
    text = str(message)
    return text if text.endswith((".", "?", "!")) else f"{text}."


def text_of(given: str | Named) -> str:
    """Return the text or the name."""
    return given if isinstance(given, str) else given.name
