"""The result of one bench run, as records; bytes, seconds and fractions throughout.

`Result` is what `-o FILE.json` holds; `freezekit.results.schema` describes it. A figure that was
not obtained is None, never 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct, structs

from freezekit.results.lean_text import LeanChoice
from freezekit.results.variant import Variant

SCHEMA_VERSION: Literal[1] = 1
CONTROL = "control"  # the label of the second copy of the baseline in `Raw`
DISCARDED_STEPS = 1  # the first step of a turn finds the caches filled by another strategy
PROTOCOL = "v1"
FREES_LITTLE = 0.03  # of the saved activations of `full`: below, what lean would save is predicted
MOST = 2**63 - 1  # what other readers of JSON can hold, too

# What a figure may be; the reader refuses the rest, so that nothing made of it overflows.
Count = Annotated[int, Meta(ge=0, le=MOST)]
Natural = Annotated[int, Meta(ge=1, le=MOST)]
Whole = Annotated[int, Meta(ge=-MOST, le=MOST)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
RunSeconds = Annotated[float, Meta(ge=0, le=1e100)]
StepTime = Annotated[float, Meta(ge=1e-9, le=1e9)]  # seconds; times are divided by them
Ratio = Annotated[float, Meta(ge=1e-100, le=1e100)]
Turn = Annotated[list[StepTime], Meta(min_length=DISCARDED_STEPS + 1)]
ScheduleKey = tuple[str, LeanChoice, int, int]
Status = Literal["ok", "oom", "error"]
Verdict = Literal["baseline", "faster", "slower", "no difference shown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def _text_unless(field: str, value: object, other: str) -> Meta:
    """Say in the JSON Schema that another field is null where a field has a value, else text."""
    return Meta(
        extra_json_schema={
            "if": {"properties": {field: {"const": value}}},
            "then": {"properties": {other: {"type": "null"}}},
            "else": {"properties": {other: {"type": "string"}}},
        }
    )


_FAILED_HAS_REASON = _text_unless("status", "ok", "error")
_PEAK_HAS_METHOD = _text_unless("peak_bytes", None, "peak_method")


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a result: it cannot be changed, and knows all of its fields.

    Reading and writing, and the JSON Schema, follow from the type hints. A field that came later
    has a default: files without it are read all the same.
    """


class Workload(Record, frozen=True):
    """One training step, described: the same for every row of a result.

    Attributes:
        model: As given: "torchvision:resnet18", "timm:...", "package.module:factory" or
            "path/to/file.py:factory".
        batch_size: Images in a batch.
        image_size: Pixels of the square image; None for the model's own default until a worker has
            resolved it.
        input_shape: Of the first tensor that goes in: (batch, channels, height, width), or
            (batch, channels, frames, height, width).
        num_classes: Passed to the model's builder; None for its default.
        pretrained: Whether weights are loaded.
        device: "cpu" or "cuda".
        dtype: Type of weights and inputs, as torch names it: "float32", "bfloat16", "float16".
        amp: Autocast type, or None.
        optimizer: "sgd" (momentum 0.9), "adamw" or "adam".
        channels_last: Whether weights and inputs are in channels-last layout.
        loss: "path.py:function" or "module:function", taking the model's output and returning a
            scalar; None for cross-entropy on the logits.
        loss_text: How the loss was made, in words, as resolved.
        seed: Of weights, inputs and order.
    """

    model: str
    batch_size: Natural = 8
    image_size: Natural | None = None
    input_shape: tuple[Natural, ...] | None = None
    num_classes: Count | None = None
    pretrained: bool = False
    device: str = "cpu"
    dtype: str = "float32"
    amp: str | None = None
    optimizer: str = "sgd"
    channels_last: bool = False
    loss: str | None = None
    loss_text: str | None = None
    seed: Whole = 0

    @property
    def key(self) -> tuple[Any, ...]:  # Any: values of many types
        """What makes two workloads the same; the words for the loss follow from the rest.

        Example:
            >>> Workload("timm:resnet18").key == Workload("timm:resnet18", batch_size=16).key
            False
        """
        facts = structs.asdict(self)
        del facts["loss_text"]
        return tuple(facts.values())


class Plugin(Record, frozen=True):
    """Where a row's strategy comes from; several names joined by " + " where a spec composes."""

    name: str
    distribution: str
    version: str


class Parameters(Record, frozen=True):
    """Elements, tied parameters once. The digest tells trainable sets apart."""

    total: Count
    trainable: Count
    trainable_digest: str


class Memory(Record, frozen=True):
    """Bytes in one training step; `docs/reference/figures.md` says how they are counted.

    Attributes:
        peak_bytes: The highest device-allocator total in the step.
        peak_method: "measured" (a real step) or "predicted" (fake tensors).
        predicted_peak_bytes: The tracker's peak under fake tensors.
        tracker_peak_bytes: The tracker's peak in the real step: live storages, no workspace.
        parameters_bytes, buffers_bytes, inputs_bytes, optimizer_bytes: By unique storage.
        gradients_bytes: After backward.
        saved_activations_bytes: Alive because of the graph after forward, parameters, buffers and
            inputs excluded.
        workspace_bytes: Allocator peak minus tracker peak.
        process_bytes: Resident high-water mark (`max_memory_reserved` on CUDA); never ranked by.
        gradients_at_peak_bytes, saved_at_peak_bytes: What of `gradients_bytes` and of saved
            activations is alive at the tracker's peak; None in files that do not tell.
    """

    peak_bytes: Count | None = None
    peak_method: Literal["measured", "predicted"] | None = None
    predicted_peak_bytes: Count | None = None
    tracker_peak_bytes: Count | None = None
    parameters_bytes: Count | None = None
    buffers_bytes: Count | None = None
    inputs_bytes: Count | None = None
    gradients_bytes: Count | None = None
    optimizer_bytes: Count | None = None
    saved_activations_bytes: Count | None = None
    workspace_bytes: Whole | None = None
    process_bytes: Count | None = None
    gradients_at_peak_bytes: Count | None = None
    saved_at_peak_bytes: Count | None = None


class StageFigures(Record, frozen=True):
    """What a strategy does to one stage of the model.

    Attributes:
        name: The stage's name.
        kind: "stem", "body", "neck" or "head".
        parameters: Elements in it.
        trainable: Elements that are trained.
        modules: Modules that lie wholly in it.
        held_in_eval: Those of them that are held in eval mode.
        forward_flops: Of its modules in one forward pass; None where they could not be counted.
    """

    name: str
    kind: str
    parameters: Count
    trainable: Count
    modules: Count
    held_in_eval: Count
    forward_flops: Count | None = None


class Flops(Record, frozen=True):
    """Floating-point operations of one step, counted under fake tensors."""

    forward: Count
    backward: Count


class CacheFigures(Record, frozen=True):
    """What a cache of the frozen prefix would hold and skip for each sample, without a real step.

    Attributes:
        bytes_per_sample: Of a row of the cache; None where there can be no cache.
        boundary: The modules whose outputs it keeps.
        skipped_flops: Of the forward of one sample, what the cache skips.
        forward_flops: Of the whole forward of one sample.
        reason: Why there can be none; None where there can.
    """

    bytes_per_sample: Count | None = None
    boundary: tuple[str, ...] = ()
    skipped_flops: Count | None = None
    forward_flops: Count | None = None
    reason: str | None = None


class StepSeconds(Record, frozen=True):
    """Seconds of the measured steps of a row, over all blocks and rounds."""

    median: StepTime
    p10: StepTime
    p90: StepTime


class Time(Record, frozen=True):
    """Step time against `full`: a ratio of paired turns with its 95 % interval.

    `ratio` and `verdict` are None where the baseline failed, `ratio_ci` also where there is one
    block only. `split` holds median seconds of "forward", "backward" and "optimizer" on CUDA, else
    None. `ratio_to_stock` is against the stock row of the same strategy, obtained like `ratio`, on
    lean rows beside which that was timed; else None.
    """

    step_seconds: StepSeconds
    ratio: Ratio | None
    ratio_ci: tuple[Ratio, Ratio] | None
    verdict: Verdict | None
    split: dict[str, Seconds] | None = None
    ratio_to_stock: Ratio | None = None
    ratio_to_stock_ci: tuple[Ratio, Ratio] | None = None


class Outlook(Record, frozen=True):
    """What a stock row would come to if it were lean, predicted under fake tensors."""

    saved_activations_bytes: Count
    peak_bytes: Count


class Filling(Record, frozen=True):
    """The time that a cache takes to fill, and what that is set against.

    A data set's reading is no part of it, as images are synthetic.

    Attributes:
        fill_seconds_per_1000_samples: Of the forward of the frozen prefix, in batches.
        ratio_to_uncached: The step time divided by that of the same strategy on images, obtained
            like `Time.ratio`; None where that was not timed beside it.
        ratio_to_uncached_ci: Its 95 % interval.
        verdict: Of that ratio, as in `Time`.
        pays_after_epochs: The first number of epochs whose saved time is more than that of filling;
            None where the cached steps are not shown to be faster.
    """

    fill_seconds_per_1000_samples: Seconds
    ratio_to_uncached: Ratio | None = None
    ratio_to_uncached_ci: tuple[Ratio, Ratio] | None = None
    verdict: Verdict | None = None
    pays_after_epochs: Count | None = None


class Compilation(Record, frozen=True):
    """What `torch.compile` costs a compiled row once, and what each step gains by it.

    Attributes:
        compile_seconds: Of the first step in a process of its own, beyond those of a usual step:
            with an empty cache of Inductor, and without the import of Inductor.
        ratio_to_eager: The step time divided by that of the same strategy without `torch.compile`,
            obtained like `Time.ratio`; None where that was not timed beside it.
        ratio_to_eager_ci: Its 95 % interval.
        verdict: Of that ratio, as in `Time`.
    """

    compile_seconds: Seconds
    ratio_to_eager: Ratio | None = None
    ratio_to_eager_ci: tuple[Ratio, Ratio] | None = None
    verdict: Verdict | None = None


class OfVariant(Record, frozen=True):
    """A row of a result: the variant that it is about, and its label."""

    strategy: str
    lean: LeanChoice = False

    @property
    def variant(self) -> Variant:
        """What the row is about; no two rows of a result are about the same variant."""
        return Variant(self.strategy, self.lean)

    @property
    def label(self) -> str:
        """The name of the row in raw steps, events, tables and sentences."""
        return self.variant.label


class PhaseOf(Record, frozen=True):
    """Which phase of which schedule a row was measured for.

    Attributes:
        schedule: Its text.
        index: From 1.
        begins: When the phase begins: "2ep", or "150step" within an epoch.
        steps: Optimizer steps of the phase.
    """

    schedule: str
    index: Natural
    begins: str
    steps: Natural


class Row(OfVariant, frozen=True):
    """One strategy, in stock PyTorch or lean, or the plan of a phase of a schedule.

    `cached` says that its steps take features of a cache in place of images; `filling` is then what
    the cache costs and when it pays, where that was measured.

    `compiled` says that `torch.compile` compiles the model; `compilation` is then what that costs.
    The peak and the saved activations of such a row are measured in real steps of the compiled
    model, by the device's allocator, and nothing is predicted. Its parameters, buffers, inputs,
    gradients, optimizer state and FLOPs are those of the same strategy in eager.

    `phase` is None in the row of a strategy. In that of a plan it is the first phase that has it,
    and `strategy` is the schedule and the time: "head-only then full at 2ep @ 0ep".

    `error` says why where `status` is not "ok"; figures obtained still stand. `with_lean` is there
    where a strategy frees few activations and was not measured in lean. `stages` is empty where the
    model cannot be staged, and in files that do not tell. `plan_digest` tells plans apart; None in
    files that do not tell. `cache` is what a cache of its frozen prefix would hold; None in files
    that do not tell.
    """

    status: Status = "ok"
    error: str | None = None
    plugin: Plugin | None = None
    parameters: Parameters | None = None
    memory: Annotated[Memory, _PEAK_HAS_METHOD] = Memory()
    flops: Flops | None = None
    time: Time | None = None
    warnings: tuple[str, ...] = ()
    with_lean: Outlook | None = None
    stages: tuple[StageFigures, ...] = ()
    plan_digest: str | None = None
    phase: PhaseOf | None = None
    cache: CacheFigures | None = None
    cached: bool = False
    filling: Filling | None = None
    compiled: bool = False
    compilation: Compilation | None = None

    @property
    def variant(self) -> Variant:
        """What the row is about; no two rows of a result are about the same variant."""
        return Variant(self.strategy, self.lean, self.cached, self.compiled)


class SchedulePhase(Record, frozen=True):
    """A phase of a schedule.

    Attributes:
        begins: When it begins: "2ep", or "150step" within an epoch.
        steps: Optimizer steps in it.
        spec: The text of its plan; None if the schedule gave a plan without one.
        row: The label of the row that has its figures. Phases of one plan share a row, with a
            strategy too.
    """

    begins: str
    steps: Natural
    spec: str | None
    row: str


class RunTime(Record, frozen=True):
    """The time of all steps of a run, against as many steps of `full`.

    `seconds` is the sum over phases of steps times the median step, `full_seconds` that of `full`.
    `ratio` is of paired turns, each phase weighted by its share of the steps; `ratio_ci` is its
    95 % interval over blocks. The last three are None as in `Time`.
    """

    seconds: RunSeconds
    full_seconds: RunSeconds
    ratio: Ratio | None
    ratio_ci: tuple[Ratio, Ratio] | None
    verdict: Verdict | None


class ScheduleCost(Record, frozen=True):
    """What a whole training under a schedule costs.

    Attributes:
        schedule: Its text.
        lean: Whether its phases are lean.
        epochs: Epochs of the run.
        steps_per_epoch: Optimizer steps of an epoch.
        phases: In their order.
        moments: What the optimizer does with the state of parameters that are no longer trained:
            "keep". So the state of all that was ever trained counts.
        peak_bytes: The highest peak of the phases; None where the phases do not all have one that
            was obtained alike.
        peak_method: As in `Memory`.
        flops: Of all steps, forward and backward; None also above 2**63 - 1.
        flops_ratio: Against as many steps of `full`.
        time: Of all steps.
    """

    schedule: str
    lean: LeanChoice
    epochs: Natural
    steps_per_epoch: Natural
    phases: Annotated[tuple[SchedulePhase, ...], Meta(min_length=1)]
    moments: Literal["keep"] = "keep"
    peak_bytes: Count | None = None
    peak_method: Literal["measured", "predicted"] | None = None
    flops: Count | None = None
    flops_ratio: Ratio | None = None
    time: RunTime | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return sum(phase.steps for phase in self.phases)

    @property
    def key(self) -> ScheduleKey:
        """What makes two of them the same training."""
        return self.schedule, self.lean, self.epochs, self.steps_per_epoch


class Control(Record, frozen=True):
    """A second copy of the baseline, timed like a row: how much two copies differ.

    `ratio_ci` is None where there is one block only.
    """

    ratio: Ratio
    ratio_ci: tuple[Ratio, Ratio] | None


class Raw(Record, frozen=True):
    """Every measured step, nothing dropped.

    Attributes:
        order: Per block and round, the labels of rows in the order in which they took their turns.
        steps: steps[block][round][label] is the list of seconds of that turn's steps, the first of
            them discarded by the estimate; the control's label is "control".
        warmup: warmup[block][label] is the list of seconds of the warm-up steps; in the first step
            of a compiled row, what was compiled before is loaded or compiled again.
        split: split[block][label] maps "forward", "backward" and "optimizer" to seconds on
            CUDA; empty elsewhere.
        fill: fill[block][label] is the list of seconds in which the prefix of a cached row computed
            a batch; empty where no row is cached.
    """

    order: list[list[list[str]]] = []
    steps: list[list[dict[str, Turn]]] = []
    warmup: list[dict[str, list[Seconds]]] = []
    split: list[dict[str, dict[str, Seconds]]] = []
    fill: list[dict[str, Turn]] = []


class Result(Record, frozen=True):
    """One model, several strategies, one run. The first row is stock `full`; ratios are against it.

    `complete` is False while a run goes on or where it was interrupted. `notes` are sentences for
    the reader, each with a figure behind it. `timing_design` records blocks, rounds, and what a
    budget cut. `schedules` has an entry for each schedule that was measured; the rows of its phases
    are among `rows`.
    """

    freezekit: str
    workload: Workload
    env: dict[str, Any]  # Any: facts of many types, described by the schema
    rows: Annotated[tuple[Annotated[Row, _FAILED_HAS_REASON], ...], Meta(min_length=1)] = ()
    control: Control | None = None
    raw: Raw | None = None
    timing_design: dict[str, Any] | None = None  # Any: as env
    notes: tuple[str, ...] = ()
    schedules: tuple[ScheduleCost, ...] = ()
    complete: bool = False
    schema_version: Literal[1] = SCHEMA_VERSION
    protocol: str = PROTOCOL
