"""One sweep: which trainings are asked for, one rung after the other, and what becomes of them.

All that it decides follows from the answers of trainings: which learning rates, who is stopped. So
the result does not depend on the engine, on the order of answers, or on a kill in between.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.errors import counted
from freezekit.sweep.asking import SweepProgress, Work, ask
from freezekit.sweep.halving import Standing, hopeless
from freezekit.sweep.learning_rates import best_rate, grid_notes
from freezekit.sweep.recipes import Job, pilot_jobs, prediction_job, trial_jobs
from freezekit.sweep.rows import is_cut, stopped, with_pilots_failed, with_status, with_trial
from freezekit.sweep.summary import doubt, gflops, peak_bytes, with_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.sweep.records import Sweep, SweepRow
    from freezekit.training.records import Trial

LATE = "the budget was used up before all was trained; --resume with a larger --budget goes on"
_SHARE = 0.05  # of the time, which figures and files of a sweep that goes on may take


class SweepRun:
    """Trains the candidates of a sweep.

    Args:
        sweep: With a row for each candidate, without trials.
        work: How it is carried out.
        on_change: Is given the sweep from time to time, and at its end.
        on_progress: Is told what is being done.
        began: When this session began, as of `time.monotonic()`; None: now.

    Attributes:
        sweep: As far as it has come.
    """

    def __init__(
        self,
        sweep: Sweep,
        work: Work,
        on_change: Callable[[Sweep], object] = lambda _: None,
        on_progress: Callable[[SweepProgress], object] = lambda _: None,
        began: float | None = None,
    ) -> None:
        self.sweep: Sweep = sweep
        self._work, self._on_change, self._on_progress = work, on_change, on_progress
        self._seconds_before = sweep.seconds or 0.0
        self._began = time.monotonic() if began is None else began
        self._next_change = self._began

    def run(self) -> Sweep:
        """Train what is not trained yet, and return the whole result.

        Raises:
            EngineError: The engine cannot be reached.
            OutputError: An answer cannot be written.
        """
        settings = self.sweep.settings
        if self._work.prediction:
            jobs = [prediction_job(row, settings) for row in self._alive()]
            self._answer("predicting memory", jobs)
        self._choose_rates()
        for rung in (*settings.rungs, settings.epochs):
            rows = [row for row in self._alive() if row.lr or row.candidate.lr == "auto"]
            jobs = [job for row in rows for job in trial_jobs(row, settings, rung)]
            if self._work.deadline is None:
                # Seed by seed: what is paired is near in time, and the load of a machine changes.
                # With a deadline row by row, so that whole rows are done when it comes.
                jobs.sort(key=lambda job: job.recipe.seed)
            until = "" if rung == settings.epochs else f" to epoch {rung}"
            self._answer(f"training {counted(len(rows), 'candidate')}{until}", jobs)
            if rung < settings.epochs:
                self._stop_hopeless(rung)
        self._finish()
        return self.sweep

    def keep(self) -> Sweep:
        """Return the sweep as it is, with its figures: after an interruption."""
        self._changed(at_once=True)
        return self.sweep

    def _choose_rates(self) -> None:
        """Give each row its learning rate; pilots find it where there is a grid."""
        settings = self.sweep.settings
        for row in self._alive():
            lr = row.candidate.lr
            if not isinstance(lr, str):
                self._put(replace(row, lr=lr))
            elif lr == "grid" and len(settings.lr_grid) == 1:
                self._put(replace(row, lr=settings.lr_grid[0]))
        rows = [row for row in self._alive() if row.candidate.lr == "grid" and row.lr is None]
        images = self.sweep.data.train_samples
        jobs = [job for row in rows for job in pilot_jobs(row, settings, images)]
        self._answer(f"pilots: {len(settings.lr_grid)} learning rates of each candidate", jobs)
        for row in map(self._row, [row.label for row in rows]):
            best = best_rate(row.pilots, settings)
            if best is not None:
                self._put(replace(row, lr=best))
            elif not self._work.is_late:
                self._put(with_pilots_failed(row, settings.metric))

    def _stop_hopeless(self, rung: int) -> None:
        """Stop rows at a rung; a row whose trials are not all there is no part of the choice."""
        settings, standings = self.sweep.settings, []
        for row in self._alive():
            at_rung = [trial for trial in row.trials if len(trial.epochs) == rung]
            if len(at_rung) == len(settings.seeds):
                standings.append(self._standing(row))
        for label in hopeless(standings, settings, self.sweep.data.val_labels):
            for job in trial_jobs(self._row(label), settings, rung):
                self._work.forget(job)
            self._put(stopped(self._row(label), rung))

    def _standing(self, row: SweepRow) -> Standing:
        operations, peak = gflops(row.trials), peak_bytes(row.trials)
        cost = None if operations is None or peak is None else (operations, float(peak))
        is_kept = row.is_baseline or row.candidate.schedule is not None or self._was_trained(row)
        return Standing(row.label, row.trials, cost, is_kept)

    def _was_trained(self, row: SweepRow) -> bool:
        """Return whether an earlier sweep, of fewer candidates or seeds, has trained it wholly."""
        settings = self.sweep.settings
        jobs = trial_jobs(row, settings, settings.epochs)
        return any(self._work.known(job) is not None for job in jobs)

    def _answer(self, phase: str, jobs: Sequence[Job]) -> None:
        """Put an answer of each training into its row: a known one, or one from the engine."""
        left = []
        for job in jobs:
            known = self._known(job)
            if known is None:
                left.append(job)
            else:
                self._take(job, known)
        if left and not self._work.is_late:
            peaks = {row.label: row.peak_bytes for row in self.sweep.rows}
            for job, trial in ask(phase, left, self._work, peaks, self._on_progress):
                self._take(job, trial)
                self._changed()
        self._changed(at_once=bool(left))

    def _known(self, job: Job) -> Trial | None:
        """Return an answer of before; at a rung also that of the whole training.

        A sweep without rungs has only the latter.
        """
        known = self._work.known(job)
        if known is None and not job.is_prediction and job.until < job.recipe.epochs:
            known = self._work.known(dataclasses.replace(job, until=job.recipe.epochs))
        return known

    def _alive(self) -> list[SweepRow]:
        return [row for row in self.sweep.rows if row.status in ("running", "ok")]

    def _row(self, label: str) -> SweepRow:
        return next(row for row in self.sweep.rows if row.label == label)

    def _take(self, job: Job, trial: Trial) -> None:
        self._put(with_trial(self._row(job.label), job, trial, self.sweep.settings))

    def _put(self, row: SweepRow) -> None:
        rows = (row if each.label == row.label else each for each in self.sweep.rows)
        self.sweep = replace(self.sweep, rows=tuple(rows))

    def _changed(self, *, at_once: bool = False) -> None:
        """Compute figures and pass them on, unless that was done a moment ago."""
        begin = time.monotonic()
        if begin < self._next_change and not at_once:
            return
        seconds = self._seconds_before + begin - self._began
        self.sweep = with_figures(replace(self.sweep, seconds=seconds))
        self._on_change(self.sweep)
        end = time.monotonic()
        self._next_change = end + (end - begin) / _SHARE

    def _finish(self) -> None:
        settings = self.sweep.settings
        for row in self._alive():
            self._put(with_status(row, settings))
        rows = self.sweep.rows
        late = any(map(is_cut, rows))
        self.sweep = with_figures(replace(self.sweep, complete=not late))
        doubts = [text for text in (doubt(self.sweep), LATE if late else None) if text]
        notes = dict.fromkeys((*self.sweep.notes, *grid_notes(rows, settings), *doubts))
        self.sweep = replace(self.sweep, notes=tuple(notes))
        self._changed(at_once=True)
