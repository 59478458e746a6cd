"""What is said under the table of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import some
from freezekit.report.note_records import Note, Notes, note, note_of_rows, rows_by_text
from freezekit.report.phrasing import listed
from freezekit.sweep.comparing import BY_IMAGE
from freezekit.sweep.rows import ended_trials, without_metric
from freezekit.sweep.summary import MUCH, best_of

if TYPE_CHECKING:
    from freezekit.sweep.records import Sweep

DEFINITIONS = (
    "accuracy: of the last epoch, on the validation images; the mean over seeds with its 95 % "
    "interval over seeds and images.",
    "difference to full: paired by seed and by image, as all candidates see the same images in the "
    "same order; so it is known better than either accuracy. An interval without 0 shows one.",
    "time, memory, GFLOP: ratios to full of a whole training; memory and GFLOP are predicted and "
    "counted, so they have no interval.",
    "on front: no other candidate has a better metric at no more GFLOP and memory, by the means "
    "alone.",
    "stopped at 2: given up as hopeless after epoch 2; its accuracy is that of this epoch.",
)


def sweep_notes(sweep: Sweep) -> Notes:
    """Return everything that is said of a sweep, in the order of reading.

    Example:
        >>> from freezekit.sweep.records import Settings, Sweep
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0", skipped=("a/1.png",))
        >>> sweep = Sweep("0.1.0", data, Settings(5, (0, 1, 2)), {}, complete=True)
        >>> sweep_notes(sweep).all[0].text
        "1 image that cannot be read was left out: 'a/1.png'"
    """
    warnings = (*_skipped(sweep), *sweep.data.notes, *sweep.notes)
    said = [
        *_interrupted(sweep),
        *_failures(sweep),
        *(note("warning", text) for text in dict.fromkeys(warnings)),
        *(Note("finding", text) for text in _findings(sweep)),
        *_details(sweep),
        *(Note("definition", text) for text in DEFINITIONS),
    ]
    return Notes(tuple(said), "--explain")


def recommendation(sweep: Sweep) -> str | None:
    """Return the sentence that recommends a candidate, None where none is recommended."""
    if sweep.recommended is None:
        return None
    done = [row for row in sweep.rows if row.status == "ok" and row.metric is not None]
    if done and best_of(done, sweep.settings).label == sweep.recommended:
        return f"recommended: {sweep.recommended}, the best; no cheaper one is shown to be near it"
    if sweep.settings.metric in BY_IMAGE:
        why = f"the cheapest that loses at most {100 * MUCH:.0f} points, if any, against the best"
    else:
        why = "the cheapest that is not shown to be worse than the best"
    return f"recommended: {sweep.recommended}, {why}"


def _findings(sweep: Sweep) -> list[str]:
    chosen = recommendation(sweep)
    stopped = [row.label for row in sweep.rows if row.stopped_at is not None]
    said = [f"stopped early, as hopeless: {listed(stopped)}"] if stopped else []
    return [*([chosen] if chosen else []), *sweep.sentences, *said]


def _interrupted(sweep: Sweep) -> list[Note]:
    if sweep.complete:
        return []
    done = sum(map(ended_trials, sweep.rows))
    of = len(sweep.rows) * len(sweep.settings.seeds)
    text = f"not complete: {done} of {of} trials ended; the same command with --resume continues"
    return [note("interrupted", text)]


def _failures(sweep: Sweep) -> list[Note]:
    failed = [
        (row.label, f"{row.status}: {row.error or 'no reason is known'}")
        for row in sweep.rows
        if row.status in ("diverged", "oom", "error")
    ]
    said = [note_of_rows("failed", rows, text) for text, rows in rows_by_text(failed).items()]
    return [*said, *_without_metric(sweep)]


def _without_metric(sweep: Sweep) -> list[Note]:
    """Return a note where the metric that is compared has failed."""
    rows, metric = without_metric(sweep.rows), sweep.settings.metric
    if not rows:
        return []
    are_all = not any(row.metric for row in sweep.rows)
    who = "no candidate has a" if are_all else f"{listed([row.label for row in rows])}: no"
    notes = [text for row in rows for trial in row.trials for text in trial.notes]
    why = next((text for text in notes if repr(metric) in text), "it is not finite")
    return [note("failed", f"{who} value of {metric!r}: {why}")]


def _skipped(sweep: Sweep) -> list[str]:
    count = len(sweep.data.skipped)
    if not count:
        return []
    what = (
        "1 image that cannot be read was"
        if count == 1
        else f"{count} images that cannot be read were"
    )
    return [f"{what} left out: {some(sweep.data.skipped)}"]


def _details(sweep: Sweep) -> list[Note]:
    """Return what trials say of themselves, once for all trials that say it."""
    said = [(row.label, text) for row in sweep.rows for trial in row.trials for text in trial.notes]
    return [
        Note("detail", f"{', '.join(labels)}: {text}")
        for text, labels in rows_by_text(said).items()
    ]
