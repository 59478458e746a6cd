"""The result file: whole or not at all, and read strictly."""

from __future__ import annotations

import inspect
import json
import math
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from msgspec import structs
from msgspec.structs import replace

from freezekit.errors import OutputError
from freezekit.results import files, store
from freezekit.results import records as results
from freezekit.results.records import (
    Control,
    Flops,
    Memory,
    Parameters,
    PhaseOf,
    Plugin,
    Raw,
    Result,
    Row,
    RunTime,
    ScheduleCost,
    SchedulePhase,
    StageFigures,
    StepSeconds,
    Time,
    Workload,
)
from freezekit.results.schema import result_schema

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = result_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
TURNS = {"full": [0.3, 0.2, 0.2], "control": [0.3, 0.2, 0.21]}
FULL = Row(
    "full",
    plugin=Plugin("full", "freezekit", "0.1.0"),
    parameters=Parameters(100, 100, "a1"),
    memory=Memory(peak_bytes=2_000, peak_method="predicted", saved_activations_bytes=700),
    flops=Flops(10, 20),
    time=Time(StepSeconds(0.2, 0.19, 0.25), 1.0, (1.0, 1.0), "baseline", {"forward": 0.1}),
    warnings=("öde", "two\nlines"),
)
RESULT = Result(
    "0.1.0",
    Workload("timm:resnet18", input_shape=(8, 3, 224, 224), amp="bfloat16"),
    env={"torch": "2.15.0", "threads": 2, "load_before": [0.1, 0.2], "git": None},
    rows=(FULL, Row("head-only", status="oom", error="killed by signal 9")),
    control=Control(1.01, (0.98, 1.04)),
    raw=Raw([[["full", "control"]]], [[TURNS]], [TURNS], [{"full": {"forward": 0.1}}]),
    timing_design={"blocks": 1, "cut": None},
    notes=("a note",),
    complete=True,
)
ROW = {"strategy": "full"}
LEAN = replace(
    FULL,
    lean=True,
    time=Time(
        StepSeconds(0.2, 0.19, 0.25),
        1.02,
        (1.0, 1.04),
        "no difference shown",
        ratio_to_stock=1.02,
        ratio_to_stock_ci=(1.0, 1.04),
    ),
)
WITH_LEAN = replace(RESULT, rows=(FULL, LEAN))
OTHER = replace(RESULT, workload=Workload("timm:vit_tiny_patch16_224"))
MINIMAL = Result("0.1.0", Workload("timm:resnet18"), env={}, rows=(Row("full"),))
STAGED = replace(
    RESULT,
    rows=(replace(FULL, stages=(StageFigures("stem", "stem", 80, 0, 3, 3, 900),)),),
)
PHASE = Row("full then head-only at 1ep @ 1ep", phase=PhaseOf("full then ...", 2, "1ep", 10))
SCHEDULED = replace(
    RESULT,
    rows=(FULL, PHASE),
    schedules=(
        ScheduleCost(
            "full then head-only at 1ep",
            False,
            2,
            10,
            (
                SchedulePhase("0ep", 10, "full", "full"),
                SchedulePhase("1ep", 10, None, PHASE.label),
            ),
            peak_bytes=2_000,
            peak_method="predicted",
            flops=500,
            flops_ratio=0.8,
            time=RunTime(4.0, 5.0, 0.8, (0.7, 0.9), "faster"),
        ),
    ),
)
# Fields that came later: files without them are files all the same.
LATER = {
    "run": {"schedules"},
    "row": {"stages", "with_lean", "phase"},
    "memory": {"gradients_at_peak_bytes", "saved_at_peak_bytes"},
}
ONE_BLOCK = replace(
    RESULT,
    rows=(replace(FULL, time=Time(StepSeconds(0.2, 0.2, 0.2), None, None, None)),),
    control=Control(1.1, None),
)


@pytest.mark.parametrize(
    "written",
    [(RESULT,), (RESULT, OTHER), (MINIMAL,), (ONE_BLOCK,), (WITH_LEAN,), (STAGED,), (SCHEDULED,)],
)
def test_what_is_written_is_valid_and_reads_back_equal(written: tuple[Result, ...]) -> None:
    text = store.to_json(written)
    VALIDATOR.validate(json.loads(text))
    assert store.from_json(text) == written


def test_one_run_is_an_object_and_several_are_an_array() -> None:
    assert json.loads(store.to_json([RESULT]))["schema_version"] == 1
    assert [run["workload"]["model"] for run in json.loads(store.to_json([RESULT, OTHER]))] == [
        "timm:resnet18",
        "timm:vit_tiny_patch16_224",
    ]
    with pytest.raises(OutputError, match="nothing was measured"):
        store.to_json([])


def test_a_person_can_read_it_what_it_is_first_and_raw_steps_last_in_one_line() -> None:
    lines = store.to_json([RESULT]).splitlines()
    assert lines[1:3] == ['  "schema_version": 1,', '  "freezekit": "0.1.0",']
    assert lines[-2].startswith('  "raw": {"order": [[["full", "control"]]]')


def test_the_schema_describes_every_record_and_knows_no_other_fields() -> None:
    kinds = vars(results).values()
    records = [k for k in kinds if isinstance(k, type) and issubclass(k, results.Record)]
    records = [kind for kind in records if not kind.__subclasses__() or kind is Row]
    assert set(SCHEMA["$defs"]) == {kind.__name__ for kind in records}
    for record in records:
        described = SCHEMA["$defs"][record.__name__]
        known = {field.name: field for field in structs.fields(record)}
        assert set(described["properties"]) == set(known), record
        assert set(described["required"]) == {n for n, f in known.items() if f.required}, record
        assert described["additionalProperties"] is False, record
        assert described["description"] == inspect.getdoc(record)


def test_a_phase_has_a_row_and_a_time_that_is_not_finite_is_left_out() -> None:
    data = json.loads(store.to_json([SCHEDULED]))
    data["schedules"][0]["phases"][1]["row"] = "head-only"
    with pytest.raises(OutputError, match=r"schedules\[0\]\.phases\[1\]\.row is 'head-only'"):
        store.from_json(json.dumps(data))
    (schedule,) = SCHEDULED.schedules
    endless = replace(schedule, time=RunTime(4.0, 5.0, math.inf, None, None))
    (read,) = store.from_json(store.to_json([replace(SCHEDULED, schedules=(endless,))]))
    assert read.schedules[0].time is None
    assert read.schedules[0].flops == 500


def test_a_file_from_before_those_fields_is_valid_and_reads_as_not_told() -> None:
    data = json.loads(store.to_json([STAGED]))
    for name in LATER["run"]:
        del data[name]
    for row in data["rows"]:
        for name in LATER["row"]:
            del row[name]
        for name in LATER["memory"]:
            del row["memory"][name]
    VALIDATOR.validate(data)
    (read,) = store.from_json(json.dumps(data))
    assert read.rows[0].stages == ()
    assert read.rows[0].phase is None
    assert read.schedules == ()
    assert read.rows[0].memory.saved_at_peak_bytes is None


def test_the_schema_itself_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert not VALIDATOR.is_valid([])
    assert not VALIDATOR.is_valid({"schema_version": 1})


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("rows", 0, "unknown"), 1),
        (("rows", 0, "memory", "peak_bytes"), 1.5),
        (("rows", 0, "memory", "peak_method"), None),
        (("rows", 0, "time", "verdict"), "quick"),
        (("rows", 0, "time", "ratio_ci"), [1.0]),
        (("rows", 1, "error"), None),
        (("raw", "steps"), [[{"full": ["0.2"]}]]),
        (("schema_version",), 2),
        (("rows",), []),
        (("rows", 0, "memory", "peak_bytes"), -1),
        (("rows", 0, "memory", "peak_bytes"), 2**64),
        (("rows", 0, "flops", "forward"), -1),
        (("rows", 0, "time", "step_seconds", "median"), 0),
        (("control", "ratio_ci"), [0, 1]),
        (("raw", "steps"), [[{"full": [0.2]}]]),
    ],
)
def test_the_schema_refuses(where: tuple[str | int, ...], value: object) -> None:
    assert not VALIDATOR.is_valid(_changed(where, value))


def _changed(where: tuple[str | int, ...], value: object) -> Any:  # Any: JSON data
    data = json.loads(store.to_json([RESULT]))
    inner = data
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    return data


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("rows", 0, "colour"), 1, r"rows\[0\]: object contains unknown field `colour`"),
        (
            ("rows", 0, "memory", "peak_bytes"),
            "x",
            r"peak_bytes is 'x': expected `int \| null`, got `str`",
        ),
        (("rows", 0, "memory", "peak_bytes"), True, r"peak_bytes is True"),
        (("rows", 0, "status"), "fine", r"rows\[0\].status is 'fine': invalid enum value 'fine'"),
        (
            ("rows", 0, "time", "ratio_ci"),
            [1.0],
            r"ratio_ci is \[1.0\]: expected `array` of length",
        ),
        (("rows", 0, "time", "ratio"), 1e999, "it is not JSON: .*line 1, column"),
        (("workload",), {"batch_size": 8}, "workload: object missing required field `model`"),
        (("workload", "pretrained"), 1, "pretrained is 1: expected `bool`, got `int`"),
        (("rows",), {}, "rows is {}: expected `array`, got `object`"),
        (("rows",), [], r"rows is \[\]: expected `array` of length >= 1; .*measure again"),
        (("rows",), [ROW, ROW], r"rows\[1\] is 'full', which rows\[0\] is too"),
        (("rows", 0, "memory", "peak_bytes"), -5, "peak_bytes is -5: expected `int` >= 0;"),
        (
            ("rows", 0, "memory", "peak_bytes"),
            10**400,
            r"peak_bytes is 1000.*: expected `int` <= 9",
        ),
        (("rows", 0, "parameters", "total"), -1, "parameters.total is -1: expected `int` >= 0;"),
        (("rows", 0, "flops", "backward"), 2**64, r"backward is \d{20}: expected `int` <= \d{19};"),
        (("rows", 0, "time", "ratio"), 10**400, r"ratio is 1000.*\.\.\.: number out of range;"),
        (("workload", "batch_size"), 0, "batch_size is 0: expected `int` >= 1;"),
        (("workload", "seed"), 10**400, r"seed is 1000.*\.\.\.: expected `int` <= "),
        (
            ("control", "ratio_ci"),
            [0, 1],
            r"ratio_ci\[0\] is 0: expected `float` >= 1e-100;",
        ),
        (("raw", "order"), [], "raw.order has 0 blocks, expected 1 as raw.steps has"),
        (
            ("raw", "steps"),
            [[{"full": [0.2]}]],
            r"raw.steps\[0\]\[0\]\[\.\.\.\]: expected `array` of length >= 2;",
        ),
        (
            ("raw", "steps"),
            [[{"full": [0.2, 0]}]],
            r"raw.steps\[0\]\[0\]\[\.\.\.\]\[1\]: expected `float` >= 1e-09;",
        ),
        (("timing_design", "discarded_steps"), None, "discarded_steps is None, expected a whole"),
        (("timing_design", "discarded_steps"), "x", "discarded_steps is 'x', expected a whole nu"),
        (("env",), [], r"env is \[\]: expected `object`, got `array`"),
        (
            ("raw", "steps"),
            [[{"full": [None]}]],
            r"raw.steps\[0\]\[0\]\[\.\.\.\]\[0\]: expected `float`, got `null`",
        ),
        (("schema_version",), 2, "newer freezekit .*pip install -U freezekit"),
        (("schema_version",), 0, "older freezekit .*measure again"),
        (("schema_version",), "1", "not a freezekit result"),
    ],
)
def test_a_changed_file_is_refused(
    where: tuple[str | int, ...], value: object, message: str
) -> None:
    with pytest.raises(OutputError, match=rf"'r\.json'.*{message}"):
        store.from_json(json.dumps(_changed(where, value)), "r.json")


def test_a_number_too_long_for_python_to_read_is_refused_by_its_field() -> None:
    text = json.dumps(_changed(("rows", 0, "memory", "peak_bytes"), 777))
    with pytest.raises(OutputError, match="peak_bytes: integer value out of range; get the fi"):
        store.from_json(text.replace("777", "7" * 10_000))


def test_texts_that_are_no_utf_8_are_escaped_and_every_line_separator_is_kept() -> None:
    env = {"command": "freezekit bench odd\udcff.py:build", "\udcff": "a\u2028b\x85c"}
    (read,) = store.from_json(store.to_json([replace(RESULT, env=env)]))
    assert read.env == {
        "command": "freezekit bench odd\\udcff.py:build",
        "\\udcff": "a\u2028b\x85c",
    }


def test_a_byte_order_mark_before_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(store.to_json([RESULT]), encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert store.load(path) == (RESULT,)


def test_a_field_that_a_record_fills_by_itself_may_be_missing() -> None:
    data = json.loads(store.to_json([RESULT]))
    del data["raw"]["split"]
    (read,) = store.from_json(json.dumps(data))
    assert read.raw is not None
    assert read.raw.split == []


def test_files_from_before_there_was_lean_are_read() -> None:
    data = json.loads(store.to_json([RESULT]))
    for row in data["rows"]:
        del row["lean"]
        for name in ("ratio_to_stock", "ratio_to_stock_ci"):
            (row["time"] or {}).pop(name, None)
    assert store.from_json(json.dumps(data)) == (RESULT,)
    assert [row.label for row in RESULT.rows] == ["full", "head-only"]


def test_files_from_before_there_were_caches_are_read() -> None:
    data = json.loads(store.to_json([RESULT]))
    for row in data["rows"]:
        for name in ("cache", "cached", "filling"):
            del row[name]
    del data["raw"]["fill"]
    assert store.from_json(json.dumps(data)) == (RESULT,)


def test_a_file_cut_off_anywhere_is_refused_and_mostly_called_so() -> None:
    text = store.to_json([RESULT, OTHER])
    cuts = range(1, len(text) - 2, 7)
    said = []
    for cut in cuts:
        with pytest.raises(OutputError, match=r"'r\.json'") as caught:
            store.from_json(text[:cut], "r.json")
        said.append("is cut off at line" in str(caught.value))
    assert sum(said) > 0.9 * len(said)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[]", "holds no result"),
        ("hello: yaml", "is not JSON"),
        ('{"benchmarks": []}', "lacks 'schema_version' and 'freezekit'"),
        ("[1, 2]", r"\[0\] is 1: expected `object`, got `int`"),
        ("[" * 100_000, "not a freezekit result"),
        ('{"a": NaN}', "it is not JSON: .*line 1, column 7;"),
    ],
)
def test_what_is_no_result_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        store.from_json(text, "r.json")


def test_load_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot read .*none\.json': no such file"):
        store.load(tmp_path / "none.json")
    with pytest.raises(OutputError, match=r"cannot read .*is a directory"):
        store.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OutputError, match="not text in UTF-8"):
        store.load(tmp_path / "binary.json")


def test_no_figure_that_is_not_finite_reaches_the_file() -> None:
    endless = replace(FULL, time=replace(FULL.time, ratio_ci=(0.0, math.inf)))
    env = {"load": math.nan, "nested": [{"a": -math.inf, "b": 1.5}]}
    result = replace(RESULT, rows=(endless,), control=Control(math.nan, None), env=env)
    text = store.to_json([result])
    VALIDATOR.validate(json.loads(text, parse_constant=pytest.fail))
    (read,) = store.from_json(text)
    assert read.rows[0].time is None
    assert read.rows[0].memory == FULL.memory
    assert "not a finite number" in read.rows[0].warnings[-1]
    assert read.control is None
    assert read.env == {"load": None, "nested": [{"a": None, "b": 1.5}]}


def test_a_killed_writer_beside_another_leaves_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    files.write_text(path, store.to_json([RESULT]))
    before = path.stat().st_ino
    code = (
        "import sys; from freezekit.results import files, store\n"
        "results = store.load(sys.argv[1])\n"
        "while True: files.write_text(sys.argv[1], store.to_json(results * 50))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    try:
        deadline = time.monotonic() + 30
        while path.stat().st_ino == before and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(5):
            assert store.load(path)[0] == RESULT
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    assert store.load(path)[-1] == RESULT
