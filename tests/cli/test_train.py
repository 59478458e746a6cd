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

from freezekit import load_backbone
from freezekit.cli import main

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
    again = tmp_path / "again.safetensors"
    ran(VIT, "--data", photos, "-s", "head-only", *FAST, "--ema", "0.5", "-o", again)
    one, other = load_file(path), load_file(again)
    assert all(torch.equal(one[name], other[name]) for name in one)
    # A second training takes the place of the first; somebody else's file stays.
    assert ran(VIT, "--data", photos, "-s", "head-only", *FAST, "-o", path).exit_code == 0
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
        (("--lr", "fast"), "'fast' is neither a number above 0 nor 'auto'"),
        (("--lr", "0"), "'0' is neither a number above 0 nor 'auto'"),
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


def test_without_images_it_says_where_to_get_some(tmp_path: Path) -> None:
    done = ran(VIT, *FAST, "-o", tmp_path / "w.safetensors")
    assert done.exit_code == 2
    assert "torchvision.datasets" in done.stderr


def test_a_diverged_training_writes_no_weights(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    done = ran("timm:test_resnet", "--data", photos, "-s", "full", *FAST, "--optimizer", "sgd",
               "--lr", "1e5", "--warmup", "0", "-o", path)  # fmt: skip
    assert (done.exit_code, path.exists()) == (4, False)
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
