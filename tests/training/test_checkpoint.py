"""What a checkpoint holds, and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from msgspec.structs import replace

from freezekit import TrainingError, train
from freezekit.training.checkpoint import find_checkpoint
from freezekit.training.facts import hold_out
from tests.training.trainings import VIT, recipe

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.data.training_data import TrainingData

HEAD = recipe(model=VIT, epochs=2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Path:
    """The folder of a training that is paused after its first epoch."""
    folder = tmp_path_factory.mktemp("kept")
    train(HEAD, data, checkpoint=folder, until=1)
    return folder


def test_what_is_not_trained_is_not_kept(kept: Path) -> None:
    found = find_checkpoint(str(kept))
    assert found is not None
    assert found.state is not None
    assert set(found.state["trainer"]["model"]) == {
        f"{name}.{kind}" for name in ("norm", "head") for kind in ("weight", "bias")
    }
    assert (kept / "checkpoint.pt").stat().st_size < 30_000


def test_torch_reads_it_without_code(kept: Path) -> None:
    assert torch.load(kept / "checkpoint.pt", weights_only=True)["version"] == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lr": 0.5}, "lr is 0.003 there and 0.5 here"),
        ({"seed": 1, "epochs": 3}, "epochs is 2 there and 3 here; seed is 0 there and 1 here"),
    ],
)
def test_one_of_another_recipe_is_refused(
    changes: dict[str, float], text: str, kept: Path, data: TrainingData
) -> None:
    with pytest.raises(TrainingError) as error:
        train(replace(HEAD, **changes), data, checkpoint=kept, resume=True)
    assert f"is of another training: {text}" in str(error.value)


def test_one_of_other_images_is_refused(kept: Path, data: TrainingData) -> None:
    with pytest.raises(TrainingError, match="the images or their split are other ones"):
        train(HEAD, hold_out(data, 0.2), checkpoint=kept, resume=True)


def test_other_weights_in_the_frozen_part_are_refused(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(
        "import os, timm, torch\n"
        "def build(num_classes):\n"
        "    model = timm.create_model('test_vit', num_classes=num_classes)\n"
        "    with torch.no_grad():\n"
        "        model.pos_embed.add_(float(os.environ['SHIFT']))\n"
        "    return model\n"
    )
    case = replace(HEAD, model=f"{tmp_path}/net.py:build", image_size=None)
    monkeypatch.setenv("SHIFT", "0")
    train(case, data, checkpoint=tmp_path / "kept", until=1)
    monkeypatch.setenv("SHIFT", "1")
    with pytest.raises(TrainingError, match="other weights in the part that is not trained"):
        train(case, data, checkpoint=tmp_path / "kept", resume=True)


def test_a_damaged_one_is_told(kept: Path, data: TrainingData, tmp_path: Path) -> None:
    whole = (kept / "checkpoint.pt").read_bytes()
    for data_there in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        (tmp_path / "checkpoint.pt").write_bytes(data_there)
        with pytest.raises(TrainingError, match=r"checkpoint\.pt' is damaged .* begin anew"):
            train(HEAD, data, checkpoint=tmp_path, resume=True)


def test_one_of_another_version_is_told(kept: Path, data: TrainingData, tmp_path: Path) -> None:
    found = torch.load(kept / "checkpoint.pt", weights_only=True)
    torch.save(found | {"version": 2}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="has version 2, expected 1"):
        train(HEAD, data, checkpoint=tmp_path, resume=True)


def test_object_storage_does_the_same(kept: Path, data: TrainingData) -> None:
    place = "memory://a-bucket/trial"
    train(HEAD, data, checkpoint=place, until=1)
    done = train(HEAD, data, checkpoint=place, resume=True)
    assert (done.trial.status, done.trial.resumed) == ("ok", 1)
    found = find_checkpoint(place)
    assert found is not None
    assert len(found.trial.epochs) == 2
