"""Gates on the command line: the option, the lines with the outcomes, the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from freezekit.errors import ExitCode, GateError
from freezekit.gate.judge import Gate
from freezekit.report.cells import title

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.gate.judge import Judgement

F = TypeVar("F", bound="Callable[..., Any]")  # Any: a command's own parameters


class GateType(click.ParamType[Gate]):
    """A condition; an error message marks the place."""

    name = "gate"

    def convert(
        self, value: str | Gate, param: click.Parameter | None, ctx: click.Context | None
    ) -> Gate:
        """Read the gate."""
        if isinstance(value, Gate):
            return value
        try:
            return self.read(value)
        except GateError as error:
            self.fail(str(error), param, ctx)

    def read(self, text: str) -> Gate:
        """Return the gate of a text."""
        return Gate.read(text)


class SweepGateType(GateType):
    """A condition on the figures of a sweep."""

    def read(self, text: str) -> Gate:
        """Return the gate of a text."""
        from freezekit.gate.judge_sweep import read_sweep_gate  # imports NumPy

        return read_sweep_gate(text)


def read_gates(texts: Sequence[str], kind: GateType) -> list[Gate]:
    """Return the gates of texts whose language the files have told.

    Raises:
        click.BadParameter: One cannot be read; the message marks the place.
    """
    try:
        return [kind.read(text) for text in texts]
    except GateError as error:
        raise click.BadParameter(str(error), param_hint="'--fail-if'") from None


def _option(kind: click.ParamType[Any], example: str) -> Callable[[F], F]:
    return click.option(
        "--fail-if",
        "gates",
        multiple=True,
        metavar="CONDITION",
        type=kind,
        help="Exit with 1 where the condition holds for a row, and with 3 where noise leaves it "
        f"open. Example: {example!r}. May be given several times; docs/guides/ci.md "
        "describes the language.",
    )


fail_if_option = _option(GateType(), "peak_bytes > full * 0.6")
fail_if_option_of_sweep = _option(SweepGateType(), "accuracy < full - 0.01")
fail_if_option_of_any = _option(click.STRING, "peak_bytes > full * 0.6")
"""Gives texts: the files tell whether their figures are those of a bench or of a sweep."""


def report_gates(gates: Sequence[Gate], judgements: Sequence[Judgement]) -> ExitCode:
    """Print the outcome of each gate, with the model where there are several; return the code."""
    names = _names(judgements)
    for gate in gates:
        found = [judgement for judgement in judgements if judgement.gate is gate]
        passed = sum(judgement.outcome == "passed" for judgement in found)
        if passed:
            click.echo(f"pass: {gate.text} ({passed} of {len(found)} rows)")
        elif not found:
            click.echo(f"cannot say: {gate.text}: there is no row that it concerns", err=True)
        for judgement in found:
            if judgement.outcome != "passed":
                word = "FAIL" if judgement.outcome == "failed" else "cannot say"
                where = names[title(judgement.result)] if judgement.result else ""
                row = f"{where}{judgement.label}"
                click.echo(f"{word}: {gate.text}: {row}: {judgement.reason}", err=True)
    outcomes = {judgement.outcome for judgement in judgements}
    if "failed" in outcomes:
        return ExitCode.CHECK_FAILED
    unheard = {gate.text for gate in gates} - {judgement.gate.text for judgement in judgements}
    return ExitCode.INCONCLUSIVE if "unclear" in outcomes or unheard else ExitCode.OK


def _names(judgements: Sequence[Judgement]) -> dict[str, str]:
    """Return, by the title of each run, the prefix of its rows: "" where there is one run."""
    results = [judged.result for judged in judgements if judged.result is not None]
    models = {title(result): result.workload.model for result in results}
    if len(models) == 1:
        return dict.fromkeys(models, "")
    if len(set(models.values())) < len(models):
        return {name: f"{name}: " for name in models}
    return {name: f"{model}: " for name, model in models.items()}
