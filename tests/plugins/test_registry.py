"""Good and bad plugins, really installed on a path: what is found, contained and reported."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch import nn

from freezekit import PluginError, SpecError, StagingError, UnknownStrategyError
from freezekit.plugins.discovery import find_plugins
from freezekit.plugins.registering import default_registry, load_registry
from freezekit.spec.grammar import format_named

if TYPE_CHECKING:
    from freezekit.plugins.loading import PluginRecord
    from freezekit.plugins.registry import Registry

BUILT_IN = {
    "full",
    "head-only",
    "first-n-stages",
    "last-n-stages",
    "fraction",
    "surgical",
    "by-name",
    "batch-norm",
    "norm-only",
    "bias-only",
    "attention-only",
    "patch-embed",
    "discriminative-lr",
    "layer-decay",
}
SCHEDULES = {
    "auto-rgn",
    "chain-thaw",
    "freeze-out",
    "gradual-unfreeze",
    "lp-ft",
    "on-plateau",
    "one-cycle-unfreeze",
    "plasticity",
}


def record_of(registry: Registry, name: str) -> PluginRecord:
    (record,) = (record for record in registry.plugins if record.name == name)
    return record


def the_others_work(registry: Registry) -> bool:
    own = [record for record in registry.plugins if record.distribution == "freezekit"]
    return all(record.status == "ok" for record in own) and registry.strategies.keys() >= BUILT_IN


def test_installed_entry_points_are_those_of_pyproject() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text())["project"]["entry-points"]["freezekit"]
    own = metadata.distribution("freezekit").entry_points.select(group="freezekit")
    installed = {point.name: point.value for point in own}
    assert installed == declared, "the installation is out of date; run: pip install -e ."


def test_the_built_in_strategies_are_plugins_like_any() -> None:
    registry = load_registry()
    assert the_others_work(registry)
    record = record_of(registry, "full")
    assert record.module == "freezekit_strategies.full"
    assert record.version == metadata.version("freezekit")
    assert record.strategies == ("full",)
    assert record.hooks == ("freezekit_strategies",)
    assert registry.schedules.keys() == SCHEDULES
    assert record_of(registry, "lp-ft").schedules == ("lp-ft",)
    assert registry.notes == ()


def test_own_distribution_first_then_by_distribution_and_name(site) -> None:
    site.add("Zeta", {"a_plugin": "", "b_plugin": ""})
    site.add("alpha", {"z_plugin": ""})
    found = find_plugins()
    own = [plugin.name for plugin in found if plugin.distribution == "freezekit"]
    assert own == sorted(BUILT_IN | SCHEDULES)
    others = [(plugin.distribution, plugin.name) for plugin in found[len(own) :]]
    assert others == [("alpha", "z-plugin"), ("Zeta", "a-plugin"), ("Zeta", "b-plugin")]


def test_finding_imports_nothing(site) -> None:
    site.add("loud", {"loud": "raise SystemExit(9)"})
    assert "loud" in {plugin.name for plugin in find_plugins()}
    assert "loud" not in sys.modules


def test_a_distribution_that_is_there_twice_counts_once_and_the_first_wins(
    site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("Twice_Over", {"newer": ""}, version="2.0", folder="first")
    site.add("twice.over", {"older": ""}, version="1.0", folder="second")
    monkeypatch.syspath_prepend(site.path / "second")
    monkeypatch.syspath_prepend(site.path / "first")
    monkeypatch.syspath_prepend(site.path / "first")
    found = [plugin for plugin in find_plugins() if plugin.distribution != "freezekit"]
    assert [(plugin.name, plugin.version) for plugin in found] == [("newer", "2.0")]


def test_a_good_plugin(site) -> None:
    site.add_good()
    registry = load_registry()
    record = record_of(registry, "good")
    assert (record.distribution, record.version, record.status) == ("good-plugin", "1.2", "ok")
    assert record.strategies == ("biases",)
    (strategy,) = registry.create("biases:keep=fc")
    assert (strategy.keep, strategy.strength) == ("fc", 0.5)
    assert registry.plugin_of(strategy) is record
    assert registry.origin(strategy) == "plugin 'good' of good-plugin 1.2"
    with pytest.raises(SpecError, match=r"biases: strength is 2\.0, expected 0 to 1"):
        registry.create("biases:keep=fc,strength=2")


def test_a_spec_makes_its_strategies_in_order() -> None:
    made = load_registry().create("first-n-stages:n=2 + discriminative-lr:decay=0.8")
    assert [format_named(s) for s in made] == [
        "first-n-stages:n=2",
        "discriminative-lr:decay=0.8",
    ]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "import nowhere_to_be_found",
            "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero ({path}/bad.py:2)"),
        ("def f(:", "SyntaxError: invalid syntax ({path}/bad.py:1)"),
        ("raise SystemExit(3)", "SystemExit: 3 ({path}/bad.py:1)"),
        ("import json\njson.loads('{')", "({path}/bad.py:2)"),
        ("class E(Exception):\n    def __str__(self): 1/0\nraise E", "E: <exception str() failed>"),
    ],
)
def test_a_plugin_that_cannot_be_loaded(site, source: str, error: str) -> None:
    site.add_good()
    site.add("bad-plugin", {"bad": source})
    registry = load_registry()
    record = record_of(registry, "bad")
    assert record.status == "failed"
    assert record.strategies == record.hooks == ()
    (text,) = record.errors
    assert error.format(path=site.path) in text
    assert the_others_work(registry)
    assert record_of(registry, "good").status == "ok"


def test_an_entry_point_to_nothing(site) -> None:
    info = site.add("bad-plugin", {"bad": ""})
    (info / "entry_points.txt").write_text("[freezekit]\nbad = bad:missing\ngone = not_there\n")
    registry = load_registry()
    assert "has no attribute 'missing'" in record_of(registry, "bad").errors[0]
    assert "No module named 'not_there'" in record_of(registry, "gone").errors[0]
    assert the_others_work(registry)


def test_an_unreadable_declaration(site) -> None:
    info = site.add("bad-plugin", {"bad": ""})
    (info / "entry_points.txt").write_text("[freezekit]\nno equals sign\n")
    other = site.add("unrelated", {})
    (other / "entry_points.txt").write_bytes(b"[console_scripts]\n\xff\xfe")
    registry = load_registry()
    record = record_of(registry, "?")
    assert (record.distribution, record.status) == ("bad-plugin", "failed")
    assert "its entry_points.txt cannot be read" in record.errors[0]
    assert "install bad-plugin again" in record.errors[0]
    assert the_others_work(registry)
    assert "unrelated" not in {record.distribution for record in registry.plugins}


def test_a_distribution_without_metadata_is_still_found(site) -> None:
    info = site.add("bare", {"bare": ""})
    (info / "METADATA").unlink()
    assert record_of(load_registry(), "bare").status == "failed"  # it implements no hook


def test_ctrl_c_gets_through(site) -> None:
    site.add("bad-plugin", {"bad": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load_registry()


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "@hookimpl\ndef freezekit_strategy(): return []",
            "unknown hook 'freezekit_strategy', did you mean 'freezekit_strategies', "
            "'freezekit_stages' or 'freezekit_metrics'? The hooks are: freezekit_metrics, "
            "freezekit_schedules, freezekit_stages, freezekit_strategies",
        ),
        (
            "def freezekit_strategies(): return []",
            "function 'freezekit_strategies' lacks the decorator of a hook; put "
            "@freezekit.hookimpl above it",
        ),
        (
            "",
            "the plugin implements no hook; expected one or more of freezekit_metrics, "
            "freezekit_schedules, freezekit_stages, freezekit_strategies",
        ),
        (
            "@hookimpl\ndef freezekit_strategies(backbone): return []",
            "hook 'freezekit_strategies' hookimpl definition: freezekit_strategies(backbone)",
        ),
        (
            "@hookimpl\ndef freezekit_strategies(): return None",
            "freezekit_strategies() failed: TypeError: it returned None, expected a list of str",
        ),
        (
            "@hookimpl\ndef freezekit_strategies(): return 5",
            "freezekit_strategies() failed: TypeError: it returned 5, expected a list of str",
        ),
        (
            "@hookimpl\ndef freezekit_strategies():\n    return [1 / 0]",
            "freezekit_strategies() failed: ZeroDivisionError: division by zero ({path}/bad.py:4)",
        ),
        (
            "@hookimpl\ndef freezekit_strategies():\n    raise SystemExit",
            "freezekit_strategies() failed: SystemExit ({path}/bad.py:4)",
        ),
    ],
)
def test_a_plugin_that_misuses_a_hook(site, source: str, error: str) -> None:
    site.add("bad-plugin", {"bad": f"from freezekit import hookimpl\n{source}"})
    site.add_good()
    registry = load_registry()
    record = record_of(registry, "bad")
    assert record.status == "failed"
    assert len(record.errors) == 1
    assert error.format(path=site.path) in record.errors[0]
    assert the_others_work(registry)
    assert record_of(registry, "good").status == "ok"


def test_each_misspelt_hook_is_reported_as_its_own_plugins_fault(site) -> None:
    source = "from freezekit import hookimpl\n@hookimpl\ndef freezekit_stagez(model): return 1"
    site.add("one", {"plugin_one": source})
    site.add("two", {"plugin_two": source})
    registry = load_registry()
    for name in ("plugin-one", "plugin-two"):
        (error,) = record_of(registry, name).errors
        assert "unknown hook 'freezekit_stagez', did you mean 'freezekit_stages'" in error
    assert registry.stages(nn.Identity()) is None


def test_no_hook_of_a_plugin_with_a_misspelt_hook_is_used(site) -> None:
    site.add(
        "half",
        {
            "half": """
            from freezekit import hookimpl
            @hookimpl
            def freezekit_stages(model): return ["answered"]
            @hookimpl
            def freezekit_strategis(): return []
            """
        },
    )
    registry = load_registry()
    assert record_of(registry, "half").hooks == ()
    assert registry.stages(nn.Identity()) is None


def test_an_optional_hook_of_another_version_is_no_mistake(site) -> None:
    source = "@hookimpl(optionalhook=True)\ndef freezekit_later(): return []\n"
    stages = "@hookimpl\ndef freezekit_stages(model): return None\n"
    site.add("ahead", {"ahead": f"from freezekit import hookimpl\n{source}{stages}"})
    record = record_of(load_registry(), "ahead")
    assert (record.status, record.hooks) == ("ok", ("freezekit_stages",))


@pytest.mark.parametrize(
    ("requires", "told"),
    [
        (
            "freezekit>=7",
            "later 1.2 requires freezekit>=7, but freezekit 0.1.0 is installed",
        ),
        ("freezekit>=0.1", "unknown hook 'freezekit_phases'"),
        ("freezekit>=7; extra == 'test'", "unknown hook 'freezekit_phases'"),
        ("freezekit is great", "unknown hook 'freezekit_phases'"),
    ],
)
def test_a_plugin_for_a_later_version_that_fails_says_so_first(site, requires, told) -> None:
    source = "from freezekit import hookimpl\n@hookimpl\ndef freezekit_phases(): return []\n"
    info = site.add("later", {"ahead": source})
    with (info / "METADATA").open("a") as metadata:
        metadata.write(f"Requires-Dist: {requires}\n")
    errors = record_of(load_registry(), "ahead").errors
    assert errors[0].startswith(told)
    assert errors[-1].startswith("unknown hook 'freezekit_phases'")


GIVEN = """
@dataclass(frozen=True)
class Given(Strategy):
    name: ClassVar[str] = "given"
    summary: ClassVar[str] = "given"
    def plan(self, backbone): return FreezePlan()
"""


@pytest.mark.parametrize(
    ("body", "returned", "error"),
    [
        ("", "[5]", "returned 5, which is not a subclass of freezekit.Strategy"),
        ("", "['given']", "returned 'given', which is not a subclass of freezekit.Strategy"),
        (GIVEN, "[Given()]", "returned Given(), which is not a subclass of freezekit.Strategy"),
        (
            "class Given: pass",
            "[Given]",
            "odd.Given'>, which is not a subclass of freezekit.Strate",
        ),
        (
            GIVEN.replace("(frozen=True)", ""),
            "[Given]",
            "'Given' is not a frozen dataclass; put @dataclass(frozen=True) above it",
        ),
        (GIVEN.replace("@dataclass(frozen=True)", ""), "[Given]", "'Given' is not a frozen datacl"),
        (
            GIVEN + "class Sub(Given):\n    n: int = 0",
            "[Sub]",
            "'Sub' is not a frozen dataclass",
        ),
        (
            GIVEN.replace('"given"', '"Given_1"', 1),
            "[Given]",
            "'Given' has the name 'Given_1', expected lower-case letters, digits and hyphens",
        ),
        (GIVEN.replace('name: ClassVar[str] = "given"', ""), "[Given]", "'Given' has no name; set"),
        (
            GIVEN.replace('summary: ClassVar[str] = "given"', ""),
            "[Given]",
            "'Given' has no summary",
        ),
        (
            GIVEN.replace("name: ClassVar[str]", "name: str"),
            "[Given]",
            "'Given' makes 'name' an option; annotate it as ClassVar[str]",
        ),
        (GIVEN.replace("def plan", "def plam"), "[Given]", "'Given' has no method 'plan'"),
        (
            GIVEN + "    parts: dict = field(default_factory=dict)",
            "[Given]",
            "option 'parts' of 'Given' has the type <class 'dict'>, which a spec cannot write",
        ),
        (
            GIVEN + "    n: int = 'a'",
            "[Given]",
            "option 'n' of 'Given' has the default 'a', expected",
        ),
        (
            GIVEN + "    n: int = field(default_factory=lambda: 1 / 0)",
            "[Given]",
            "cannot be read: ZeroDivisionError: division by zero ({path}/odd.py:",
        ),
    ],
)
def test_each_returned_class_is_checked(site, body: str, returned: str, error: str) -> None:
    site.add_odd(body, returned)
    registry = load_registry()
    record = record_of(registry, "odd")
    assert record.status == "failed"
    assert record.strategies == ()
    (text,) = record.errors
    assert error.format(path=site.path) in text
    assert the_others_work(registry)


def test_a_good_strategy_beside_a_bad_one_counts(site) -> None:
    site.add_odd(GIVEN, "[5, Given, None]")
    registry = load_registry()
    record = record_of(registry, "odd")
    assert record.status == "failed"
    assert record.strategies == ("given",)
    assert len(record.errors) == 2
    assert registry.create("given")[0].name == "given"


def test_a_taken_name_stays_with_the_built_in(site) -> None:
    site.add_odd(GIVEN.replace('"given"', '"full"', 1))
    registry = load_registry()
    assert registry.strategies["full"].plugin.distribution == "freezekit"
    (error,) = record_of(registry, "odd").errors
    assert (
        "'full' of plugin 'odd' of odd-plugin 1.2 is taken by plugin 'full' of freezekit" in error
    )
    assert "rename 'Given', or name one of the two plugins in FREEZEKIT_BLOCK" in error
    assert load_registry(["full"]).strategies["full"].plugin.distribution == "odd-plugin"


def test_a_name_that_a_plugin_provides_twice(site) -> None:
    site.add_odd(GIVEN, "[Given, Given]")
    record = record_of(load_registry(), "odd")
    assert record.strategies == ("given",)
    assert "'given' of plugin 'odd' of odd-plugin 1.2 is taken by plugin 'odd'" in record.errors[0]


@pytest.mark.parametrize("name", ["good", "good-plugin", "Good_Plugin"])
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_blocking(site, monkeypatch: pytest.MonkeyPatch, name: str, how: str) -> None:
    site.add("good-plugin", {"good": "raise SystemExit('it was loaded')"})
    if how == "environment":
        monkeypatch.setenv("FREEZEKIT_BLOCK", f"full, {name}")
        registry = load_registry()
        assert record_of(registry, "full").status == "blocked"
    else:
        registry = load_registry([name])
    record = record_of(registry, "good")
    assert (record.status, record.strategies, record.errors) == ("blocked", (), ())
    assert registry.notes == ()


def test_an_unknown_name_to_block_is_noted() -> None:
    registry = load_registry(["by-nam,full"])
    assert registry.notes == (
        "cannot block 'by-nam': no plugin or distribution has that name, did you mean 'by-name'?",
    )
    assert record_of(registry, "full").status == "blocked"


def test_an_unknown_strategy_tells_what_is_near_and_where_it_may_be(site) -> None:
    site.add("bad-plugin", {"bad": "1 / 0"})
    with pytest.raises(UnknownStrategyError) as caught:
        load_registry(["head-only"]).create("full + first_n_stage:n=2")
    text = str(caught.value)
    near = "did you mean 'first-n-stages' or 'last-n-stages'? The known strategies are: "
    assert f"unknown strategy 'first_n_stage', {near}" in text
    assert f"strategies are: {', '.join(sorted(BUILT_IN - {'head-only'}))}." in text
    may = "and may provide it: plugin"
    assert f"These plugins failed to load {may} 'bad' of bad-plugin 1.2." in text
    assert f"These plugins are blocked {may} 'head-only' of freezekit" in text
    assert text.endswith("Run 'freezekit plugins' to see why")
    assert "\n" not in text


def test_a_strategy_of_no_plugin(site) -> None:
    site.add_good()
    (strategy,) = load_registry().create("biases:keep=fc")
    other = load_registry(["good"])
    with pytest.raises(UnknownStrategyError, match="no plugin provides the class 'Biases'"):
        other.plugin_of(strategy)
    assert other.origin(strategy) == "class 'Biases' of good"


def test_a_strategy_that_breaks_on_its_options(site) -> None:
    site.add_odd(GIVEN + "    def __post_init__(self): {}['x']")
    with pytest.raises(PluginError) as caught:
        load_registry().create("given")
    text = "strategy 'given' (plugin 'odd' of odd-plugin 1.2) failed while it read its options"
    assert text in str(caught.value)
    assert f"KeyError: 'x' ({site.path}/odd.py:" in str(caught.value)


STAGES = """
from freezekit import Stage, StagingError, hookimpl

@hookimpl{options}
def freezekit_stages(model):
    if type(model).__name__ != {family!r}:
        return None
    {answer}
"""


def test_stages_come_from_the_plugin_that_knows_the_model(site) -> None:
    linear = "return [Stage({0!r}, 'stem', ('weight',)), Stage('head', 'head', ('bias',))]"
    relu = "return [Stage('c', 'stem'), Stage('head', 'head')]"
    site.add(
        "nets",
        {
            "a_linear": STAGES.format(options="", family="Linear", answer=linear.format("a")),
            "b_linear": STAGES.format(options="", family="Linear", answer=linear.format("b")),
            "c_relu": STAGES.format(options="", family="ReLU", answer=relu),
        },
    )
    registry = load_registry()
    assert [stage.name for stage in registry.stages(nn.Linear(1, 1))] == ["b", "head"]
    assert [stage.name for stage in registry.stages(nn.ReLU())] == ["c", "head"]
    assert registry.stages(nn.Identity()) is None
    without_b = load_registry(["b-linear"])
    assert [stage.name for stage in without_b.stages(nn.Linear(1, 1))] == ["a", "head"]
    assert record_of(registry, "c-relu").hooks == ("freezekit_stages",)


def test_a_hook_can_ask_to_come_first(site) -> None:
    answer = "return [Stage({!r}, 'stem'), Stage('head', 'head')]"
    first = STAGES.format(options="(tryfirst=True)", family="ReLU", answer=answer.format("first"))
    second = STAGES.format(options="", family="ReLU", answer=answer.format("second"))
    site.add("nets", {"a_first": first, "b_second": second})
    assert [stage.name for stage in load_registry().stages(nn.ReLU())] == ["first", "head"]


@pytest.mark.parametrize(
    "answer", ["3", "['stem']", "[Stage('stem', 'stam')]", "[Stage('a', 'stem')]"]
)
def test_an_answer_that_is_no_stages_is_reported_as_its_plugins_fault(site, answer: str) -> None:
    site.add("nets", {"odd": STAGES.format(options="", family="ReLU", answer=f"return {answer}")})
    with pytest.raises(PluginError, match=r"plugin 'odd' of nets 1\.2 answered freezekit_stages"):
        load_registry().stages(nn.ReLU())


def test_a_hook_that_fails_is_named_and_a_refusal_on_purpose_goes_through(site) -> None:
    breaks = STAGES.format(options="", family="ReLU", answer="return 1 / 0")
    exits = STAGES.format(options="", family="Tanh", answer="raise SystemExit(1)")
    refuses = STAGES.format(options="", family="Linear", answer="raise StagingError('too flat')")
    site.add("nets", {"breaks": breaks, "exits": exits, "refuses": refuses})
    registry = load_registry()
    with pytest.raises(PluginError) as caught:
        registry.stages(nn.ReLU())
    text = str(caught.value)
    assert "plugin 'breaks' of nets 1.2 failed in freezekit_stages() for a ReLU: ZeroDiv" in text
    assert f"{site.path}/breaks.py:8" in text
    with pytest.raises(PluginError, match=r"plugin 'exits' of nets 1\.2 failed .*SystemExit: 1"):
        registry.stages(nn.Tanh())
    with pytest.raises(StagingError, match="too flat"):
        registry.stages(nn.Linear(1, 1))


def test_a_stages_hook_that_changes_the_model_is_named(site) -> None:
    meddles = STAGES.format(options="", family="ReLU", answer="model.eval()")
    site.add("nets", {"meddles": meddles})
    model = nn.ReLU()
    with pytest.raises(PluginError, match=r"plugin 'meddles' of nets 1\.2 .* changed the model"):
        load_registry().stages(model)
    assert model.training


def test_any_base_exception_is_contained_and_prints_stay_out_of_stdout(site, capsys) -> None:
    site.add("odd", {"leaves": "print('noise')\nraise GeneratorExit('left')"})
    record = record_of(load_registry(), "leaves")
    assert record.status == "failed"
    assert "GeneratorExit: left" in record.errors[0]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "noise\n")


def test_a_plugin_for_another_version_says_so_even_if_it_loads(site) -> None:
    site.add_good()
    (metadata_file,) = site.path.glob("good*/METADATA")
    metadata_file.write_text(metadata_file.read_text() + "Requires-Dist: freezekit>=99\n")
    registry = load_registry()
    assert "good-plugin 1.2 requires freezekit>=99" in record_of(registry, "good").errors[0]
    assert "biases" in registry.strategies


def test_the_default_registry_is_loaded_once() -> None:
    assert default_registry() is default_registry()


def test_loading_needs_no_torch(site) -> None:
    site.add_good()
    example = Path(__file__).parents[2] / "plugins" / "example-plugin" / "freeze_biases.py"
    site.add("example", {"freeze_biases": example.read_text()})  # it annotates with Backbone
    code = (
        "import sys, freezekit.plugins.registering as r; "
        "x = r.load_registry(); print(len(x.strategies));"
        "x.create('biases:keep=fc + first-n-stages:n=1'); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(site.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(len(BUILT_IN) + 2), "False"]
