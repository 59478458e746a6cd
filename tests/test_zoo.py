"""The zoo: one model of every family is staged right, and the checks that say so are right."""

from __future__ import annotations

import doctest
import importlib
import json
import sys
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.zoo import (
    coverage,
    diff,
    frozen,
    models,
    pool,
    reach,
    stage_lines,
    sweep,
    table,
    tabulate,
)
from benchmarks.zoo.timm_groups import coarse_groups
from freezekit import Backbone
from tests.sampled import sampled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_, COUNTED = sweep.read(sweep.RESULTS / "zoo-coverage.jsonl")
FAMILIES = {(m.library, m.family): m for m in reversed(models.zoo())}
FAMILIES |= {
    (m.library, m.family): m
    for m in models.smallest_of_families(COUNTED)
    if m in models.zoo((m.library,), m.name)
}
"""The smallest real model of each family, by its parameters; of a new family, the first."""

SMALL = (
    "timm:test_vit",
    "timm:test_efficientnet",
    "timm:crossvit_9_240",
    "timm:coat_tiny",
    "timm:hrnet_w18_small",
    "torchvision:googlenet",
    "torchvision:squeezenet1_1",
)


DOCUMENTED = [coverage, diff, frozen, models, reach, stage_lines, sweep, table, tabulate]

COMMITTED = (
    "torchvision:resnet50",
    "torchvision:vgg11_bn",
    "torchvision:densenet121",
    "torchvision:googlenet",
    "torchvision:r3d_18",
    "torchvision:deeplabv3_resnet50",
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    "timm:vit_tiny_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:convnext_tiny",
    "timm:efficientnetv2_rw_t",
    "timm:hrnet_w18_small",
    "timm:coat_tiny",
    "timm:mobilenetv4_conv_small",
)
"""Models of different families whose stages are held against the committed ones in each test run;
`python -m benchmarks.zoo diff` compares all models."""


@pytest.mark.parametrize("module", DOCUMENTED)
def test_what_the_docstrings_show(module: object) -> None:
    name = module.__name__  # type: ignore[attr-defined]
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the models' own
@pytest.mark.parametrize(
    "model", sampled(FAMILIES.values(), every=12), ids=[":".join(key) for key in FAMILIES]
)
def test_one_model_of_every_family_is_staged(model: models.ZooModel) -> None:
    assert table.faults(coverage.examine(asdict(model))) == ""


@pytest.mark.parametrize("text", sampled(SMALL, every=3))
def test_one_graph_tells_what_flags_would(text: str) -> None:
    model = models.build(text)
    stages = [stage.parameters for stage in Backbone(model).stages]
    inputs = models.batch(model, text)
    seen = reach.observe_reach(model, inputs)
    backwards = stages[::-1]
    assert reach.unclean(model, seen, stages) == []
    assert truly_unclean(model, inputs, stages) == []
    found = reach.unclean(model, seen, backwards)
    assert found
    assert found == truly_unclean(model, inputs, backwards)


def truly_unclean(
    model: nn.Module, inputs: tuple[Tensor, ...], parts: Sequence[Sequence[str]]
) -> list[tuple[int, str]]:
    """Set the flags for every n and look at what each wholly frozen module returns."""
    parameters = dict(model.named_parameters())
    found = []
    for n in range(1, len(parts)):
        frozen_names = {name for names in parts[:n] for name in names}
        for name, parameter in parameters.items():
            parameter.requires_grad_(name not in frozen_names)
        inside = _wholly_frozen(model, {id(parameters[name]) for name in frozen_names})
        bad: set[str] = set()
        handles = []
        for name in inside:
            hook = partial(_note, bad, name)
            handles.append(model.get_submodule(name).register_forward_hook(hook))
        model.train()(*inputs)
        for handle in handles:
            handle.remove()
        found += [(n, name) for name in bad]
    return sorted(found)


def _note(bad: set[str], name: str, _module: nn.Module, _args: object, output: object) -> None:
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    if any(leaf.requires_grad for leaf in leaves):
        bad.add(name)


def _wholly_frozen(model: nn.Module, frozen_ids: set[int]) -> list[str]:
    whole: list[str] = []
    for name, module in model.named_modules():
        own = [id(parameter) for parameter in module.parameters()]
        parent = name.rpartition(".")[0]
        if name and (frozen_ids.issuperset(own) if own else parent in whole):
            whole.append(name)
    return whole


def test_the_graph_of_a_tensor_changed_in_place() -> None:
    # The frozen norm's output becomes that of the trained layer only after it was returned.
    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.first(x)
            return y.add_(self.last(x))

    net = Adds()
    seen = reach.observe_reach(net, (torch.ones(1, 2),))
    parts = [["first.weight", "first.bias"], ["last.weight", "last.bias"]]
    assert reach.unclean(net, seen, parts) == []


def test_a_module_that_a_stage_claims_counts_though_it_has_no_parameters() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    seen = reach.observe_reach(net, (torch.ones(1, 2),))
    parts = [["2.weight", "2.bias"], ["0.weight", "0.bias"]]
    assert reach.unclean(net, seen, parts, [["1", "2"], ["0"]]) == [(1, "1"), (1, "2")]


def test_timm_groups_are_asked_the_same() -> None:
    model = models.build("timm:hrnet_w18_small")
    seen = reach.observe_reach(model, models.batch(model, "timm:hrnet_w18_small"))
    found = coarse_groups(model, seen)
    assert found["complete"]
    assert found["unmatched"] > 0.4  # no rule of timm's names what follows its stages


@pytest.mark.filterwarnings("ignore")  # the models' own
@pytest.mark.parametrize("text", sampled(COMMITTED, every=3))
def test_the_stages_are_those_committed(text: str) -> None:
    facts, committed = diff.read_golden(diff.GOLDEN)
    (model,) = models.zoo((text.partition(":")[0],), text)
    line = stage_lines.examine(asdict(model))
    if line["names"] != committed[text]["names"]:
        pytest.skip(f"another version of the library than {facts} makes other parameters")
    told = diff.moves(committed[text], line)
    assert told == "", "python -m benchmarks.zoo diff shows what moved; --accept commits it"


def test_every_model_is_committed_as_it_is_listed() -> None:
    facts, committed = diff.read_golden(diff.GOLDEN)
    listed = {model.text for model in models.zoo()}
    for name in ("timm", "torchvision"):
        if facts[name].partition("+")[0] == version(name).partition("+")[0]:
            mine = {text for text in committed if text.startswith(f"{name}:")}
            assert mine == {text for text in listed if text.startswith(f"{name}:")}
    assert diff.GOLDEN.stat().st_size < 1_000_000
    assert diff.GOLDEN.read_text(encoding="utf-8") == diff.written(facts, committed)


class TestDiff:
    MODELS = tuple(models.zoo(("torchvision",), "squeezenet1_?"))

    def run(self, folder: Path, **options: Any) -> int:  # Any: as `diff` takes
        return diff.diff(
            self.MODELS,
            whole=False,
            golden=folder / "golden.jsonl",
            state=folder / "state.jsonl",
            workers=1,
            **options,
        )

    @pytest.mark.slow
    def test_says_what_moved_until_it_is_accepted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path) == 1
        assert "not in the committed file\n2 models compared, 2 moved" in capsys.readouterr().out
        assert self.run(tmp_path, accept=True) == 0
        assert "2 in " in capsys.readouterr().err  # nothing is staged again
        assert self.run(tmp_path) == 0
        assert capsys.readouterr().out == "2 models compared, 0 moved\n"
        golden = tmp_path / "golden.jsonl"
        split = golden.read_text().replace("features.3-4 2-13", "features.3 2-7 | features.4 8-13")
        golden.write_text(split)
        assert self.run(tmp_path) == 1
        assert capsys.readouterr().out == (
            "torchvision:squeezenet1_1:\n"
            "  stages: stem | features.3 | features.4 | features.5-7 | features.8-12 | head -> "
            "stem | features.3-4 | features.5-7 | features.8-12 | head\n"
            "  6 parameters from features.3 to features.3-4: features.3.squeeze.weight, "
            "features.3.squeeze.bias, features.3.expand1x1.weight, features.3.expand1x1.bias "
            "and 2 more\n"
            "  6 parameters from features.4 to features.3-4: features.4.squeeze.weight, "
            "features.4.squeeze.bias, features.4.expand1x1.weight, features.4.expand1x1.bias "
            "and 2 more\n"
            "2 models compared, 1 moved\n"
        )

    def test_same_parameters_in_other_order_are_told(self) -> None:
        line = {"stages": "stem 0 | head 1", "names": "a", "rest": "b", "parameters": ["x", "y"]}
        assert "other names" in diff.moves(line | {"names": "c"}, line)
        assert "buffers" in diff.moves(line | {"rest": "c"}, line)
        assert diff.moves(None, line) == "not in the committed file"
        refused = {"status": "refused", "reason": "StagingError: no"}
        assert diff.moves(line, refused) == "was: staged\nis: StagingError: no"
        assert diff.moves(refused, refused) == ""

    def test_a_stage_with_another_name_is_told_as_such(self) -> None:
        now = {"stages": "stem 0 | b 1 | head 2", "names": "a", "rest": "b", "parameters": "xyz"}
        before = now | {"stages": "stem 0 | a 1 | head 2"}
        told = diff.moves(before, now).splitlines()
        assert told == ["stages: stem | a | head -> stem | b | head", "a is now called b"]

    def test_a_stage_without_ranges_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'stem' is no stage with its ranges"):
            stage_lines.expanded("stem | head 0", ["x"])


def test_comments_and_docstrings_do_not_change_the_digest_of_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "ROOT", tmp_path)
    digests = []
    for text in ("a = 1\n", "a = 1  # one\n", '"""Of one."""\na = 1\n"""One."""\n', "a = 2\n"):
        (tmp_path / "code.py").write_text(text)
        digests.append(sweep._code(["code.py"]))
    assert digests[0] == digests[1] == digests[2] != digests[3]


class TestAfterTraining:
    def net(self) -> nn.Sequential:
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
            nn.Flatten(),
            nn.Linear(4 * 36, 2),
        )

    def ask(self, net: nn.Module) -> dict[str, object]:
        return frozen.after_training(net, (torch.rand(2, 3, 8, 8),), lambda out: out.sum(), ["0"])

    def test_flags_alone_leave_statistics_and_dropout(self) -> None:
        net = self.net()
        net[0].requires_grad_(False)
        found = self.ask(net)
        assert (found["weights"], found["statistics"], found["same"]) == (True, False, False)

    def test_what_is_trained_moves(self) -> None:
        assert self.ask(self.net())["weights"] is False

    def test_held_stays(self) -> None:
        from freezekit import freeze_

        net = self.net()
        freeze_(net, "by-name:contains=0.", example_input=torch.rand(2, 3, 8, 8))
        found = self.ask(net)
        assert (found["weights"], found["statistics"], found["same"]) == (True, True, True)


class TestSweep:
    JOBS = (
        {"library": "torchvision", "name": "squeezenet1_0", "family": "squeezenet"},
        {"library": "torchvision", "name": "no_such_model", "family": "none"},
    )

    @pytest.mark.slow
    def test_goes_on_where_it_was_stopped(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sweep, "_code", lambda _: "of one moment")
        output = tmp_path / "zoo.jsonl"
        done = sweep.sweep("coverage", self.JOBS[1:], output=output, workers=1)
        assert done[0]["status"] == "refused"
        with output.open("a") as file:
            file.write('{"library": "torchvision", "na')  # torn off
        done = sweep.sweep("coverage", self.JOBS, output=output, workers=1)
        assert [line["status"] for line in done] == ["refused", "staged"]
        facts, lines = sweep.read(output)
        assert facts["torch"] == torch.__version__.partition("+")[0]
        assert [line["name"] for line in lines] == ["no_such_model", "squeezenet1_0"]
        assert "1 done" in capsys.readouterr().err

    def test_refuses_results_of_other_code(self, tmp_path: Path) -> None:
        output = tmp_path / "zoo.jsonl"
        output.write_text(json.dumps({"code": "other"}) + "\n")
        with pytest.raises(SystemExit, match="other code or versions"):
            sweep.sweep("coverage", self.JOBS, output=output)

    @pytest.mark.slow
    def test_a_worker_that_dies_costs_its_job(self) -> None:
        found = list(pool.answers("no such task", self.JOBS, workers=1, python=sys.executable))
        assert [line["status"] for line in found] == ["failed", "failed"]


def test_the_page_is_made_of_the_lines() -> None:
    page = sweep.RESULTS / "zoo.md"
    assert page.read_text(encoding="utf-8") == table.render(sweep.RESULTS)
