"""Trainings that are asked for: answers of before, and tasks for an engine; no torch."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec

from freezekit.engines.records import Task
from freezekit.sweep.recipes import Job, digest_of
from freezekit.sweep.rows import FAILED
from freezekit.training.records import Trial
from freezekit.training.storage import inside, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from freezekit.engines.records import Engine, Outcome
    from freezekit.sweep.answers import Answers

TRAINING = "freezekit.training.task:run"
PREDICTION = "freezekit.sweep.prediction:run"
ENDED = ("ok", "diverged")  # an answer that no other training changes
PROCESS_BYTES = 400 * 2**20  # what a process takes beside its step: torch, libraries, images


@dataclass(frozen=True)
class Work:
    """How the trainings of a sweep are carried out; nothing here changes their bits.

    Attributes:
        engine: Runs them.
        answers: Those of before, and where new ones are kept.
        storage: A folder or URL, in which each training has a place for its checkpoint.
        facts: As in `digest_of`.
        argument: What all trainings need beside a recipe, such as their images: JSON data.
        predicting: What all predictions need beside a recipe: JSON data.
        deadline: As of `time.time()`; None without a budget.
        epoch_seconds: What an epoch is expected to take, by label of a row, as far as it is known.
        training: The function of a training: "module:function".
        prediction: The function that predicts a peak; "" where none is predicted.
    """

    engine: Engine
    answers: Answers
    storage: str
    facts: Mapping[str, str]
    argument: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON data
    predicting: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON data
    deadline: float | None = None
    epoch_seconds: Mapping[str, float] = field(default_factory=dict)
    training: str = TRAINING
    prediction: str = PREDICTION

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.time() > self.deadline

    def known(self, job: Job) -> Trial | None:
        """Return an answer of before."""
        return self.answers.get(self.digest(job), job.until)

    def digest(self, job: Job) -> str:
        """Return what tells a training from all others."""
        return digest_of(job, self.facts)

    def place(self, job: Job) -> str:
        """Return where the checkpoint of a training is, as long as it may go on."""
        return inside(self.storage, self.digest(job))

    def forget(self, job: Job) -> None:
        """Remove the checkpoint of a training, which does not go on.

        Raises:
            TrainingError: It cannot be removed.
        """
        remove(self.place(job))


@dataclass(frozen=True)
class SweepProgress:
    """What is being done.

    Attributes:
        phase: In words.
        done: Epochs of it.
        total: Of all its trainings.
        running: The names of the trainings that run, with the epochs that they have done.
    """

    phase: str
    done: int
    total: int
    running: tuple[str, ...] = ()


def ask(
    phase: str,
    jobs: Sequence[Job],
    work: Work,
    peaks: Mapping[str, int | None],
    on_progress: Callable[[SweepProgress], object],
) -> Iterator[tuple[Job, Trial]]:
    """Run trainings on the engine, and keep and yield their answers as they come.

    After the deadline no training is begun.

    Args:
        phase: What is done, in words.
        jobs: Those without an answer.
        work: How.
        peaks: Predicted bytes of a step, by the label of the row.
        on_progress: Is told what is being done.

    Raises:
        EngineError: The engine cannot be reached.
        OutputError: An answer cannot be written.
    """
    by_name = {job.name: job for job in jobs}
    total = sum(max(1, job.until) for job in jobs)
    reached: dict[str, int] = {}
    running: dict[str, str] = {}
    on_progress(SweepProgress(phase, 0, total))
    tasks = [task_of(job, work, peaks.get(job.label)) for job in jobs]
    with closing(cast("Generator[Outcome]", work.engine.run(tasks))) as outcomes:  # ends what runs
        for outcome in outcomes:
            job = by_name[outcome.task]
            if outcome.status == "message":
                done = reached[job.name] = min(_epochs_in(outcome), max(1, job.until))
                running[job.name] = f"{job.name} ({done} of {job.until})"
            else:
                reached[job.name] = max(1, job.until)
                running.pop(job.name, None)
                trial = trial_of(outcome, job)
                if _lasts(trial, job):
                    work.answers.put(work.digest(job), job.until, trial)
                    if trial.status in ENDED and not job.is_prediction:
                        work.forget(job)
                yield job, trial
                if work.is_late:
                    return
            now = sum(reached.values())
            on_progress(SweepProgress(phase, now, total, tuple(running.values())))


def task_of(job: Job, work: Work, peak: int | None) -> Task:
    """Return the task of a training or a prediction."""
    recipe = msgspec.to_builtins(job.recipe)
    if job.is_prediction:
        return Task(job.name, work.prediction, {**work.predicting, "recipe": recipe})
    argument = {
        **work.argument,
        "data": {**work.argument["data"], "hold_out": job.hold_out or None},
        "recipe": recipe,
        "peak_bytes": peak,
        "storage": work.place(job),
        "until": job.until,
        "deadline": work.deadline,
        "epoch_seconds": work.epoch_seconds.get(job.label, 0.0),
    }
    memory_bytes = 0 if peak is None else peak + PROCESS_BYTES
    gpus = 0 if job.recipe.device == "cpu" else 1
    return Task(job.name, work.training, argument, memory_bytes, gpus)


def trial_of(outcome: Outcome, job: Job) -> Trial:
    """Return what an engine says of a training as its record.

    Example:
        >>> from freezekit.engines.records import Outcome
        >>> from freezekit.training.records import Recipe
        >>> job = Job("full", Recipe("timm:test_vit", "full", 4), 4)
        >>> trial_of(Outcome(job.name, "oom", error="killed"), job).status
        'oom'
    """
    if outcome.status == "ok":
        return msgspec.convert(outcome.answer, Trial)
    status = "oom" if outcome.status == "oom" else "error"
    return Trial(job.recipe, status, outcome.error or "it gave no reason")  # type: ignore[arg-type]  # one of two


def _lasts(trial: Trial, job: Job) -> bool:
    """Return whether a training need not be asked again: memory, disks and deadlines change."""
    if job.is_prediction:
        return trial.status not in FAILED
    is_there = trial.status == "running" and len(trial.epochs) >= job.until
    return is_there or trial.status in ENDED


def _epochs_in(message: Outcome) -> int:
    answer = message.answer
    return len(answer.get("epochs", ())) if isinstance(answer, dict) else 0
