"""`freezekit train` as a person runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from freezekit import Epoch, Recipe, Trial, load_backbone
from freezekit.cli import main
from freezekit.cli.training_run import print_epochs

if TYPE_CHECKING:
    from pathlib import Path

FAST = ("--no-pretrained", "--image-size", "32", "--batch-size", "8", "--epochs", "2")
VIT = "timm:test_vit"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for name, light in (("dark", 10), ("light", 180)):
        (root / name).mkdir()
        for number in range(10):
            Image.new("RGB", (32, 32), (light + 5 * number,) * 3).save(
                root / name / f"{number}.png"
            )
    return root


def ran(*args: object) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(main, ["train", *map(str, args)])


def test_the_weights_are_written_and_read(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    done = ran(VIT, "--data", photos, "-s", "head-only", *FAST, "--ema", "0.5", "-o", path)
    assert done.exit_code == 0, done.output
    assert "2 classes, 16 images to train and 4 to validate" in done.stderr
    assert "2 epochs of 2 steps; a step takes" in done.stderr
    assert done.stderr.count("accuracy") == 2
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["epoch", "lr", "loss", "val", "loss", "accuracy", "balanced",
                                "accuracy", "s", "GFLOP"]  # fmt: skip
    assert max(map(len, lines[:3])) <= 80
    assert lines[-1].endswith("the weights of timm:test_vit, dark, light")
    model = load_backbone(VIT, num_classes=2, image_size=32)
    model.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    assert json.loads(facts["classes"]) == ["dark", "light"]
    assert facts["model"] == VIT
    assert "centre crop 32x32" in facts["preprocessing"]
    # A second training takes the place of the first; somebody else's file stays.
    one, written = load_file(path), path.stat().st_ino
    ran(VIT, "--data", photos, "-s", "head-only", *FAST, "--ema", "0.5", "-o", path)
    other = load_file(path)
    assert path.stat().st_ino != written
    assert all(torch.equal(one[name], other[name]) for name in one)
    path.write_bytes(b"other")
    refused = ran(VIT, "--data", photos, "-s", "head-only", *FAST, "-o", path)
    assert (refused.exit_code, path.read_bytes()) == (2, b"other")
    assert "freezekit did not write the file that is there" in refused.stderr


def test_a_schedule_and_a_metric(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def misses(logits, labels): return len(labels) / 0\n")
    done = ran(
        VIT, "--data", photos, "--schedule", "head-only then full at 1ep", *FAST,
        "--metric", f"{tmp_path}/own.py:misses", "--lean", "-o", tmp_path / "w.safetensors",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "head-only then full at 1ep [lean]: 2 epochs" in done.stderr
    assert "note: the metric 'misses' raised ZeroDivisionError" in done.stderr
    assert "misses" in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-s", "full", "--schedule", "lp-ft"), "both say what is frozen: leave out one"),
        (("--resume",), "give --checkpoint FOLDER too"),
        (("--lr", "fast"), "'fast' is neither a number above 0, at most 1e6, nor 'auto'"),
        (("--lr", "0"), "'0' is neither a number above 0, at most 1e6, nor 'auto'"),
        (("--lr", "1e9"), "'1e9' is neither a number above 0, at most 1e6, nor 'auto'"),
        (("--weight-decay", "1e300"), "is not in the range 0<=x<=1000000.0"),
        (("--checkpoint", "/proc/x"), "no checkpoint can be kept: cannot make the folder"),
        (("-s", "hed-only"), "did you mean 'head-only'?"),
        (("--schedule", "head-only then"), "cannot read the schedule"),
        (("--metric", "top5"), "the metric 'top5' is unknown"),
        (("-o", "w.pth"), "expected a name that ends in .safetensors"),
        (("-o", "nowhere/w.safetensors"), "there is no folder"),
        (("--ema", "1"), "is not in the range 0<=x<1"),
    ],
)
def test_wrong_usage_is_one_line(
    args: tuple[str, ...], said: str, photos: Path, tmp_path: Path
) -> None:
    done = ran(VIT, "--data", photos, *FAST, "-o", tmp_path / "w.safetensors", *args)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--schedule", "head-only then full at 9ep"), "9ep"),
        (("-s", "first-n-stages:n=99"), "n is 99"),
    ],
)
def test_what_does_not_fit_the_model_or_the_epochs_is_said_once(
    args: tuple[str, ...], said: str, photos: Path, tmp_path: Path
) -> None:
    done = ran(VIT, "--data", photos, *FAST, "-o", tmp_path / "w.safetensors", *args)
    assert done.exit_code == 2
    assert "cannot be predicted" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert said in done.stderr.splitlines()[-1]


def test_a_model_that_is_unknown_is_told_before_the_images(tmp_path: Path) -> None:
    done = ran(
        "timm:nope", "--data", tmp_path / "no images", *FAST, "-o", tmp_path / "w.safetensors"
    )
    assert done.exit_code == 2
    assert "timm has no model 'nope'" in done.stderr


@pytest.mark.parametrize("count", [0, 3, 6])
def test_numbers_of_the_table_are_never_cut(
    count: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("accuracy", "balanced_accuracy", "loss", *(f"own_metric_{n}" for n in range(count)))
    epoch = Epoch(1, 1.2345, 1e-3, dict.fromkeys(names, 0.9876), 1.0, 1.0, flops=10**12)
    print_epochs(Trial(Recipe(VIT, "full", 1), epochs=(epoch,)))
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].split() == [
        "1", "1.0e-03", "1.2345", *["0.9876"] * len(names), "2.0", "1000.0",
    ]  # fmt: skip
    assert "\u2026" not in printed
    assert "accuracy" in printed.split()
    if count <= 3:
        assert max(map(len, printed.splitlines())) <= 80


def test_without_images_it_says_where_to_get_some(tmp_path: Path) -> None:
    done = ran(VIT, *FAST, "-o", tmp_path / "w.safetensors")
    assert done.exit_code == 2
    assert "torchvision.datasets" in done.stderr


def test_a_diverged_training_writes_no_weights(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    done = ran("timm:test_resnet", "--data", photos, "-s", "full", *FAST, "--optimizer", "sgd",
               "--lr", "1e5", "--warmup", "0", "--epochs", "1", "--lean", "off", "--batch-size",
               "16", "-o", path)  # fmt: skip
    assert (done.exit_code, path.exists()) == (4, False)
    assert ": 1 epoch of 1 step; " in done.stderr
    assert "diverged" in done.stderr


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "import os, signal, timm\n"
        "def build(num_classes):\n"
        "    model = timm.create_model('test_vit', num_classes=num_classes)\n"
        "    def interrupt(*_):\n"
        "        if os.path.exists('interrupt') and os.path.exists('kept/checkpoint.pt'):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "    model.norm.register_forward_pre_hook(interrupt)\n"
        "    return model\n"
    )
    (tmp_path / "interrupt").touch()
    command = ("net.py:build", "--data", photos, "-s", "head-only", "--batch-size", "8",
               "--epochs", "3", "--cache", "off", "--checkpoint", "kept", "--resume",
               "-o", "w.safetensors")  # fmt: skip
    done = ran(*command)
    assert done.exit_code == 130, done.output
    assert "1 epoch(s) are kept in 'kept'; the same command with --resume goes on" in done.stderr
    (tmp_path / "interrupt").unlink()
    done = ran(*command)
    assert done.exit_code == 0, done.output
    assert "epoch 2/3" in done.stderr
    assert "epoch 1/3" not in done.stderr
    assert torch.isfinite(load_file(tmp_path / "w.safetensors")["head.weight"]).all()
