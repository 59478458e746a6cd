"""From text to model, and what is said where that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from freezekit import ModelError, load_backbone
from freezekit.model.tasks import default_image_size

if TYPE_CHECKING:
    from pathlib import Path

FACTORY = """
import torch
from torch import nn
import beside

def build(num_classes=3, pretrained=False):
    return nn.Linear(2, num_classes)

def broken():
    raise RuntimeError("no such luck")

def number():
    return 5

thing = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(FACTORY)
    (tmp_path / "beside.py").write_text("")
    return str(tmp_path / "mine.py")


def test_torchvision_timm_and_own_factories(file: str) -> None:
    assert load_backbone("torchvision:resnet18", num_classes=7, device="meta").fc.out_features == 7
    vit = load_backbone("timm:vit_tiny_patch16_224", num_classes=7, device="meta", img_size=32)
    assert vit.head.out_features == 7
    assert next(vit.parameters()).device.type == "meta"
    assert load_backbone(f"{file}:build", num_classes=5).out_features == 5
    assert load_backbone(f"{file}:build", device="meta").weight.is_meta
    assert isinstance(load_backbone("torch.nn:Flatten"), nn.Flatten)


def test_builders_that_read_values_work_on_meta() -> None:
    assert next(load_backbone("torchvision:regnet_y_400mf", device="meta").parameters()).is_meta


def test_detection_models_fetch_no_backbone_weights() -> None:
    load_backbone("torchvision:fasterrcnn_mobilenet_v3_large_fpn", device="meta")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision:resnet19", "torchvision has no model 'resnet19', did you mean 'resnet18'"),
        ("timm:vit_tinny_patch16_224", "timm has no model .* did you mean 'vit_tiny_patch16_224'"),
        ("timm:local-dir:/nowhere", "could not build 'timm:local-dir:/nowhere'"),
        ("resnet50", "did you mean 'torchvision:resnet50' or 'timm:resnet50'"),
        ("", "'' is not a model, expected 'torchvision:resnet50'"),
        ("nowhere.to_be:found", "there is no module 'nowhere.to_be'"),
        ("missing/file.py:build", "there is no file 'missing/file.py'"),
        ("FILE:nothing", "has no 'nothing'"),
        ("FILE:thing", "is of type int, expected a function"),
        ("FILE:number", "returned 'int', expected a torch.nn.Module"),
        ("FILE:broken", "could not build .*: RuntimeError: no such luck"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_errors_say_what_was_given_and_what_to_do(
    file: str, text: str, message: str, device: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_backbone(text.replace("FILE", file), device=device)


def test_a_file_that_does_not_import_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_package_at_all")
    with pytest.raises(ModelError, match=r"importing .*bad.py' failed: ModuleNotFoundError"):
        load_backbone(f"{tmp_path}/bad.py:build")


def test_unknown_builder_options_are_named() -> None:
    with pytest.raises(ModelError, match="unexpected keyword argument 'nonsense'"):
        load_backbone("torchvision:resnet18", nonsense=1)


def test_weights_on_meta_are_refused() -> None:
    with pytest.raises(ModelError, match="pretrained weights cannot be loaded on 'meta'"):
        load_backbone("timm:resnet18", pretrained=True, device="meta")


@pytest.mark.parametrize("text", ["torchvision:resnet18", "timm:resnet18"])
def test_weights_that_cannot_be_had_give_the_librarys_reason(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=f"could not load pretrained weights for '{text}': "):
        load_backbone(text, pretrained=True)


def _offline(*args: object, **kwargs: object) -> None:
    raise OSError("Network is unreachable")


def test_fresh_classifier_keeps_all_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_backbone("torchvision:resnet18").state_dict()
    # The download alone is replaced: this machine may be offline.
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: whole)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: whole)
    model = load_backbone("torchvision:resnet18", pretrained=True, num_classes=4)
    assert model.fc.out_features == 4
    assert torch.equal(model.layer4[1].conv2.weight, whole["layer4.1.conv2.weight"])
    same = load_backbone("torchvision:resnet18", pretrained=True)
    assert torch.equal(same.fc.weight, whole["fc.weight"])


def test_classes_of_detectors_stay_those_of_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torchvision:ssdlite320_mobilenet_v3_large"
    whole = load_backbone(name).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: whole)
    with pytest.raises(ModelError, match="come with their own 91 classes; leave out num_classes"):
        load_backbone(name, pretrained=True, num_classes=4)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("timm:efficientnet_b1", 240),
        ("timm:tf_efficientnet_lite4", 380),
        ("torchvision:efficientnet_b1", 240),
        ("torchvision:resnet18", 224),
        ("torchvision:vit_b_16", 224),
    ],
)
def test_default_image_sizes(text: str, size: int) -> None:
    assert default_image_size(load_backbone(text, device="meta"), text) == size
