"""A training, as records: what decides its bits, and what came of it; no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from freezekit.results.lean_text import LeanChoice
from freezekit.results.records import Count, Natural, Record, RunSeconds, Whole
from freezekit.results.variant import Variant

Augment = Literal["standard", "none"]
CacheChoice = Literal["auto", "off"]
TrialStatus = Literal["running", "ok", "stopped", "diverged", "oom", "error"]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]


class DataFacts(Record, frozen=True):
    """The images of a training.

    Attributes:
        source: As given, such as "photos" or "data.py:datasets".
        classes: Their names, in the order of their numbers.
        train_samples, val_samples: After unreadable images were left out.
        split: "given" by the user, or "made" by freezekit.
        val_fraction, split_seed: Of a split that was made; else None.
        digest: Of names, sizes and labels of all samples and of the split. Two trainings of one
            digest saw the same data.
        val_labels: Of each validation sample, in order.
        skipped: Images that cannot be read, and were left out.
        notes: Sentences for the reader, such as which folders were not used.
    """

    source: str
    classes: tuple[str, ...]
    train_samples: Count
    val_samples: Count
    split: Literal["given", "made"]
    digest: str
    val_labels: tuple[Count, ...] = ()
    val_fraction: Fraction | None = None
    split_seed: Whole | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Recipe(Record, frozen=True):
    """All that decides how a training goes, but for the data.

    Attributes:
        model: As in `Workload`.
        strategy: Canonical spec; with a schedule, that of its first phase.
        schedule: Its text, or None.
        lean: As in `freeze_`.
        lr: The learning rate after warm-up, of parameters without a multiplier; "auto" for the one
            that a range test finds.
        epochs: Of the whole training.
        image_size: Pixels; None for the model's own.
        optimizer: "adamw", "sgd" (momentum 0.9) or "adam".
        warmup: The share of all steps in which the rate rises from near 0. A cosine follows, to 0.
        ema: Decay of the averaged weights that are validated and kept; None for no average.
        amp: Autocast type, or None.
        augment: "standard" is random crops and flips; "none" takes images as a validation does.
        cache: "auto" computes the frozen prefix once where that is exact and pays.
        seed: Of the new head, of the order of samples, of augmentation and of dropout.
        threads: For torch; None for its own choice.
    """

    model: str
    strategy: str
    epochs: Natural
    schedule: str | None = None
    lean: LeanChoice = False
    lr: Annotated[float, Meta(gt=0, le=1e6)] | Literal["auto"] = 1e-3
    batch_size: Natural = 32
    image_size: Natural | None = None
    pretrained: bool = False
    optimizer: str = "adamw"
    weight_decay: Annotated[float, Meta(ge=0, le=1e6)] = 0.05
    warmup: Fraction = 0.1
    label_smoothing: Fraction = 0.1
    ema: Fraction | None = None
    amp: str | None = None
    augment: Augment = "standard"
    cache: CacheChoice = "auto"
    device: str = "cpu"
    seed: Whole = 0
    threads: Natural | None = None

    @property
    def label(self) -> str:
        """The schedule or the strategy, and whether it is lean: as rows of a bench are called."""
        return Variant(self.schedule or self.strategy, self.lean).label


class Epoch(Record, frozen=True):
    """One epoch of a training.

    Attributes:
        number: From 1.
        train_loss: Mean over the samples.
        lr: Of parameters without a multiplier, in its last step.
        val: Figures on the validation samples by name: "accuracy", "balanced_accuracy", "loss", and
            those of metrics of plugins or of the user. None where it is not finite, or its metric
            raised.
        train_seconds: Of its steps; of a cached one with its share of filling, in the epoch that
            filled.
        val_seconds: Of validation.
        flops: Of its steps, forward and backward, as counted; None where they cannot be counted.
        cached: Whether its steps took features of the cache.
    """

    number: Natural
    train_loss: Finite | None
    lr: float
    val: dict[str, Finite | None]
    train_seconds: RunSeconds
    val_seconds: RunSeconds
    flops: Count | None = None
    cached: bool = False


class Trial(Record, frozen=True):
    """One training, as far as it has come.

    Attributes:
        recipe: How it goes.
        status: "stopped" before its last epoch, as hopeless or for a budget; "diverged" where the
            loss was no finite number.
        error: Why, where it is not "ok".
        lr: The learning rate, also where a range test found it.
        epochs: Those that are done.
        peak_bytes: Predicted, of a step in the phase that needs most; None where it cannot be.
        correct: One bit for each validation sample at the last epoch, whether it was right: base64
            of packed bits, the first sample in the highest bit. None before.
        resumed: How often it went on from a checkpoint.
        notes: Sentences for the reader, such as why nothing is cached.
    """

    recipe: Recipe
    status: TrialStatus = "running"
    error: str | None = None
    lr: float | None = None
    epochs: tuple[Epoch, ...] = ()
    peak_bytes: Count | None = None
    correct: str | None = None
    resumed: Count = 0
    notes: tuple[str, ...] = ()
