"""Gates applied to a sweep: which candidates fail, which pass, and which are left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import GateError, suggest
from freezekit.gate.judge import Gate, Judgement
from freezekit.gate.sweep_scene import SWEEP_UNITS, SweepScene
from freezekit.gate.tree import texts_beside

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from freezekit.sweep.records import Sweep, SweepRow


def read_sweep_gate(text: str) -> Gate:
    """Return the gate of a text, whose figures are those of a sweep.

    Raises:
        GateError: The text cannot be read; the message shows where.

    Example:
        >>> read_sweep_gate("accuracy < full - 0.01").text
        'accuracy < full - 0.01'
    """
    return Gate.read(text, SWEEP_UNITS)


def judge_sweep(
    gates: Sequence[Gate], sweep: Sweep, earlier: Sweep | None = None
) -> tuple[Judgement, ...]:
    """Judge every row that is done except stock `full`, with which the others are compared.

    A gate that names `baseline` judges stock `full` too, and one that names `stock` lean rows only.
    A row that failed or was stopped early is judged by gates that name `status` only: it has no
    figures of a whole training.

    Args:
        gates: The conditions under which a row fails.
        sweep: Whose rows are judged.
        earlier: An earlier sweep, which gates call `baseline`.

    Example:
        >>> from freezekit.sweep.records import Candidate, Estimate, Settings, Sweep, SweepRow
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> row = SweepRow(Candidate("m", "head-only"), "head-only", status="ok",
        ...                metric=Estimate(0.90, 0.88, 0.92))
        >>> sweep = Sweep("0.1.0", data, Settings(5, (0, 1, 2)), {}, (row,))
        >>> gates = [read_sweep_gate(f"accuracy < {least}") for least in ("85%", "90%", "95%")]
        >>> [found.outcome for found in judge_sweep(gates, sweep)]
        ['passed', 'unclear', 'failed']
    """
    found = []
    has_one = len(sweep.settings.seeds) == 1
    open_yet = "one seed has no interval" if has_one else "the 95 % interval allows both"
    for gate in gates:
        for row in sweep.rows:
            if _concerns(gate, row):
                scene = SweepScene(sweep, row, earlier)
                outcome, reason = scene.outcome(gate.condition, open_yet)
                found.append(Judgement(gate, None, row.label, outcome, reason))
    return tuple(found)


def check_sweep_gates(
    gates: Sequence[Gate], strategies: Collection[str], *, has_baseline: bool
) -> None:
    """Raise if a gate cannot be judged, whatever is trained.

    Args:
        gates: The gates.
        strategies: Labels of all candidates.
        has_baseline: Whether there is an earlier sweep to compare with.

    Raises:
        GateError: A gate names a strategy that no candidate has, or a baseline that is not given.
    """
    for gate in gates:
        if gate.names_baseline and not has_baseline:
            raise GateError(
                f"the gate {gate.text!r} names a baseline, and there is none; `freezekit compare "
                "OLD.json NEW.json` has one"
            )
        for name in texts_beside(gate.condition, "strategy"):
            if name not in strategies:
                known = ", ".join(map(repr, strategies))
                raise GateError(
                    f"the gate {gate.text!r} names the strategy {name!r}, and no candidate has "
                    f"that name; there are {known}{suggest(name, strategies)}"
                )


def _concerns(gate: Gate, row: SweepRow) -> bool:
    if row.status != "ok" and not any(figure.name == "status" for figure in gate.figures):
        return False
    if gate.names_stock and not row.candidate.lean:
        return False
    return not row.is_baseline or gate.names_baseline
