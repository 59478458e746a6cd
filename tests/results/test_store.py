"""The result file: whole or not at all, and read strictly."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema
import pytest

from freezekit.errors import OutputError
from freezekit.results import records as results
from freezekit.results import store
from freezekit.results.records import (
    Control,
    Flops,
    Memory,
    Parameters,
    Plugin,
    Raw,
    Result,
    Row,
    StageFigures,
    StepSeconds,
    Time,
    Workload,
)

SCHEMA = json.loads(files("freezekit.results").joinpath("result.schema.json").read_text())
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
# Fields that came later: files without them are files all the same.
LATER = {
    "row": {"stages", "with_lean"},
    "memory": {"gradients_at_peak_bytes", "saved_at_peak_bytes"},
}
ONE_BLOCK = replace(
    RESULT,
    rows=(replace(FULL, time=Time(StepSeconds(0.2, 0.2, 0.2), None, None, None)),),
    control=Control(1.1, None),
)


@pytest.mark.parametrize(
    "written", [(RESULT,), (RESULT, OTHER), (MINIMAL,), (ONE_BLOCK,), (WITH_LEAN,), (STAGED,)]
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


def _records() -> dict[str, type]:
    found, todo = {}, [Result]
    while todo:
        record = todo.pop()
        found["run" if record is Result else record.__name__.lower()] = record
        for hint in get_type_hints(record).values():
            kinds = [hint, *getattr(hint, "__args__", ())]
            todo += [k for k in kinds if isinstance(k, type) and is_dataclass(k)]
    return found


def test_the_schema_requires_exactly_the_fields_of_the_records() -> None:
    seconds = SCHEMA["$defs"]["time"]["properties"]["step_seconds"]
    described = {**SCHEMA["$defs"], "stepseconds": seconds}
    records = _records()
    assert set(records) == {
        "run" if kind is Result else name.lower()
        for name, kind in vars(results).items()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == results.__name__
    }
    for name, record in records.items():
        names = {field.name for field in fields(record)}
        assert set(described[name]["properties"]) == names, name
        assert set(described[name]["required"]) == names - LATER.get(name, set()), name
        assert described[name]["additionalProperties"] is False, name


def test_a_file_from_before_those_fields_is_valid_and_reads_as_not_told() -> None:
    data = json.loads(store.to_json([STAGED]))
    for row in data["rows"]:
        for name in LATER["row"]:
            del row[name]
        for name in LATER["memory"]:
            del row["memory"][name]
    VALIDATOR.validate(data)
    (read,) = store.from_json(json.dumps(data))
    assert read.rows[0].stages == ()
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
        (("rows", 0, "colour"), 1, r"rows\[0\].colour is not a field"),
        (("rows", 0, "memory", "peak_bytes"), "x", r"peak_bytes is 'x', expected a whole number"),
        (("rows", 0, "memory", "peak_bytes"), True, r"peak_bytes is True"),
        (("rows", 0, "status"), "fine", r"status is 'fine', expected 'ok' or 'oom' or 'error'"),
        (("rows", 0, "time", "ratio_ci"), [1.0], r"ratio_ci is \[1.0\], expected a list of 2"),
        (("rows", 0, "time", "ratio"), 1e999, "holds Infinity"),
        (("workload",), {"batch_size": 8}, "workload.model is missing"),
        (("workload", "pretrained"), 1, "pretrained is 1, expected true or false"),
        (("rows",), {}, "rows is {}, expected a list"),
        (("rows",), [], "rows is empty, expected a row for each strategy; .*measure again"),
        (("rows",), [ROW, ROW], r"rows\[1\] is 'full', which rows\[0\] is too"),
        (("rows", 0, "memory", "peak_bytes"), -5, r"peak_bytes is -5, expected a whole number fr"),
        (("rows", 0, "memory", "peak_bytes"), 10**400, "peak_bytes is 1000.*, expected a whole nu"),
        (("rows", 0, "parameters", "total"), -1, "parameters.total is -1, expected a whole number"),
        (("rows", 0, "flops", "backward"), 2**64, r"expected a whole number from 0 to \d{20};"),
        (("rows", 0, "time", "ratio"), 10**400, "ratio is 1000.*, expected a number from 1e-100"),
        (("workload", "batch_size"), 0, "batch_size is 0, expected a whole number from 1"),
        (("workload", "seed"), 10**400, "seed is 1000.*, expected a whole number"),
        (("control", "ratio_ci"), [0, 1], r"control.ratio_ci\[0\] is 0, expected a number from 1e"),
        (("raw", "order"), [], "raw.order has 0 blocks, expected 1 as raw.steps has"),
        (
            ("raw", "steps"),
            [[{"full": [0.2]}]],
            r"raw.steps\[0\]\[0\].full is \[0.2\], expected ov",
        ),
        (("raw", "steps"), [[{"full": [0.2, 0]}]], r"full\[1\] is 0, expected a number from 1e-09"),
        (("timing_design", "discarded_steps"), None, "discarded_steps is None, expected a whole"),
        (("timing_design", "discarded_steps"), "x", "discarded_steps is 'x', expected a whole nu"),
        (("env",), [], r"env is \[\], expected an object"),
        (("raw", "steps"), [[{"full": [None]}]], r"steps\[0\]\[0\].full\[0\] is None"),
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
    with pytest.raises(OutputError, match="peak_bytes is inf, expected a whole number; get the fi"):
        store.from_json(text.replace("777", "7" * 10_000))


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
        ("[1, 2]", "run 1: it lacks"),
        ("[" * 100_000, "not a freezekit result"),
        ('{"a": NaN}', "holds NaN"),
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


def test_writing_replaces_the_whole_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("x" * 10_000)
    path.chmod(0o640)
    store.write_text(path, "new \udcff\n")
    assert path.read_bytes() == b"new \\udcff\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    store.write_text(tmp_path / "r.json", "{}")
    assert (tmp_path / "r.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "behind.json")
    store.write_text(tmp_path / "link.json", "{}")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "behind.json").read_text() == "{}"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    code = (  # a limit on file size stands in for a full disk: the write itself fails midway
        "import resource, sys; from freezekit.results.store import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_text(sys.argv[1], 'n' * 100_000)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OutputError cannot write")
    assert "the file that was there is unchanged" in done.stdout
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.json", "old")]


def test_a_killed_writer_beside_another_leaves_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    store.write_text(path, store.to_json([RESULT]))
    before = path.stat().st_ino
    code = (
        "import sys; from freezekit.bench import store\n"
        "results = store.load(sys.argv[1])\n"
        "while True: store.write_text(sys.argv[1], store.to_json(results * 50))"
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


def test_check_writable_touches_nothing(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("old")
    was = old.stat()
    store.check_writable(old)
    store.check_writable(tmp_path / "new.CSV")
    assert [p.name for p in tmp_path.iterdir()] == ["old.json"]
    assert (old.stat().st_mtime_ns, old.stat().st_ino) == (was.st_mtime_ns, was.st_ino)


def test_check_writable_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    locked = tmp_path / "locked.json"
    locked.write_text("old")
    locked.chmod(0o444)
    os.mkfifo(tmp_path / "pipe.json")
    for name, message in {
        "folder.json": "is a folder; name a file in it, such as .*results.json",
        "none/r.json": "there is no folder .*mkdir -p",
        "locked.json/r.json": "there is no folder",
        "locked.json": r"the file is read-only; unlock it \(chmod u\+w\)",
        "pipe.json": "not a regular file",
        "r.xlsx": "the extension '.xlsx' .*expected .json, .csv, .md, ",
        "r": "a name without extension .*expected .json, .csv, .md, ",
        "n" * 300 + ".json": "file name too long",
    }.items():
        with pytest.raises(OutputError, match=message):
            store.check_writable(tmp_path / name)
    assert locked.read_text() == "old"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses even root")
def test_check_writable_tries_the_folder() -> None:
    with pytest.raises(OutputError, match="the folder '/proc' takes no new file"):
        store.check_writable("/proc/r.json")
