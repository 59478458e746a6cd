"""What a real bash offers on TAB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torchvision

from freezekit.cli.completion import model_names
from tests.sampled import sampled

# `complete` knows the function; readline's own `compopt` cannot be called outside of it.
SCRIPT = """
eval "$(_FREEZEKIT_COMPLETE=bash_source freezekit)"
compopt() { echo "($2)"; }
COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}
_freezekit_completion freezekit
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(line: str, folder: Path | None = None) -> list[str]:
    """Return what bash would put in place of its current word, which begins after ":" and "="."""
    binaries = Path(sys.executable).parent
    return subprocess.run(
        ["/usr/bin/env", f"PATH={binaries}:/usr/bin:/bin", "bash", "-c", SCRIPT, "bash", line],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    ).stdout.splitlines()


def test_model_names_are_those_that_the_libraries_list() -> None:
    assert model_names("timm") == sorted(timm.list_models())
    assert model_names("torchvision") == sorted(torchvision.models.list_models())
    assert model_names("no_such_package") == []


@pytest.mark.parametrize(
    ("line", "offered"),
    sampled(
        [
            ("freezekit bench torchv", ["(nospace)", "torchvision:"]),
            ("freezekit show timm:resnet3", ["resnet32ts", "resnet33ts", "resnet34", "resnet34d"]),
            ("freezekit show ./mod", ["(default)", ""]),
            ("freezekit bench -s bat", ["batch-norm"]),
            ("freezekit bench -s first-n", ["(nospace)", "first-n-stages:"]),
            ("freezekit bench -s first-n-stages:", ["(nospace)", "n="]),
            ("freezekit verify timm:vit -s bias-only:statistics=", ["fixed", "live"]),
            (
                "freezekit verify timm:vit -s bias-only:head=false,",
                ["(nospace)", "false,statistics="],
            ),
            ("freezekit bench -s bias-only:head=", ["true", "false"]),
            ("freezekit bench -s layer-decay:decay=", ["0.75"]),
            ("freezekit bench -s 'full + norm-o", ["full + norm-only"]),
            ("freezekit bench -s 'full | norm-o", ["full | norm-only"]),
            ("freezekit bench -s 'full + norm-only:h", ["(nospace)", "full + norm-only:head="]),
            ("freezekit bench -s no-such:", [""]),
            ("freezekit strategies surg", ["surgical"]),
            ("freezekit schedules grad", ["gradual-unfreeze"]),
            ("freezekit schedules head", [""]),
            ("freezekit show timm:vit --schedule lp", ["lp-ft"]),
            ("freezekit show timm:vit --schedule head-o", ["head-only"]),
            ("freezekit show timm:vit --schedule lp-ft:p", ["(nospace)", "probe="]),
            ("freezekit show timm:vit --schedule lp-ft:probe=", ["20%"]),
            ("freezekit show timm:vit --schedule freeze-out:how=", ["linear", "cubic"]),
            (
                "freezekit show timm:vit --schedule 'head-only then first-n",
                ["(nospace)", "head-only then first-n-stages:"],
            ),
            ("freezekit show timm:vit --schedule 'head-only then lp", [""]),
            ("freezekit bench --block batch", ["batch-norm"]),
            ("freezekit bench --device c", ["cpu", "cuda"]),
            ("freezekit extract timm:vit -s first-n", ["(nospace)", "first-n-stages:"]),
        ],
        every=3,
    ),
)
def test_bash_offers(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_the_functions_of_a_file_are_offered(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\ndef build():\n    x = 1\nclass Net: ...\n")
    assert completed("freezekit show mine.py:", tmp_path) == ["build", "Net"]
    (tmp_path / "torn.py").write_text("def build(:\n")
    assert completed("freezekit show torn.py:", tmp_path) == [""]
