"""Features in files are those of the model; what is interrupted goes on; nothing wrong is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from freezekit import CacheError, FreezeError, ModelError, OutputError, SpecError, freeze_
from freezekit.data.folder import find_images
from freezekit.data.preprocessing import preprocessing_of
from freezekit.errors import DataError
from freezekit.extraction.files import check_space
from freezekit.extraction.finding import find_boundary
from freezekit.extraction.run import extract
from freezekit.extraction.work import Work
from freezekit.testing import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freezekit.extraction.boundary import Boundary

SIZE, COUNT, BATCH = 32, 10, 4


class Skips(nn.Module):
    """Two tensors go on to the rest; one of them is channels-last in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        # Not of kernel 1 and stride 2: its backward in channels-last corrupts memory on some CPUs.
        self.side, self.head = nn.Conv2d(4, 6, 3, 2, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.to(memory_format=torch.channels_last))
        logits: Tensor = self.head((torch.relu(self.body(x)) + self.side(x)).mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("photos")
    for i in range(COUNT):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.effect_noise((40 + i, 50), 90).convert("RGB").save(path)
    return root


def work_for(model: nn.Module, photos: Path, spec: Any = "head-only", **options: Any) -> Work:
    how = preprocessing_of(model, "", SIZE)
    boundary = find_boundary(model, spec, how.shape, pool=options.pop("pool", "none"))
    return Work(find_images(photos), how, boundary, **{"batch_size": BATCH, **options})


def hooked(model: nn.Module, work: Work) -> list[Tensor]:
    """Return what the modules of the boundary give for the same batches, by a plain hook."""
    found: dict[str, list[Tensor]] = {}
    for name in (call.module for call in work.boundary.prefix.cut):
        keep = found.setdefault(name, [])
        model.get_submodule(name).register_forward_hook(lambda _m, _i, o, k=keep: k.append(o))
    images = [work.preprocessing(Image.open(work.images.root / file)) for file in work.images.files]
    model.eval()
    with torch.no_grad():
        for i in range(0, len(images), BATCH):
            model(torch.stack(images[i : i + BATCH]))
    return [torch.cat(outputs) for outputs in found.values()]


@pytest.mark.parametrize(
    ("make", "spec", "shapes"),
    [
        (MODELS["residual"], "head-only", [(16, 4, 4)]),
        (MODELS["residual"], "first-n-stages:n=1", [(8, 16, 16)]),
        (Skips, "by-name:glob=stem.*", [(4, 16, 16)]),
        (Skips, "by-name:regex='^(body|side|stem)'", [(6, 8, 8), (6, 8, 8)]),
        (lambda: timm.create_model("test_vit", img_size=SIZE), "head-only", [(5, 64)]),
        (
            lambda: timm.create_model("test_vit", img_size=SIZE),
            "by-name:glob=head.*,invert=true",
            [(64,)],
        ),
    ],
)
def test_features_are_those_of_a_hook(
    make: Callable[[], nn.Module],
    spec: str,
    shapes: list[tuple[int, ...]],
    photos: Path,
    tmp_path: Path,
) -> None:
    model = make()
    work = work_for(model, photos, spec)
    index = extract(model, work, tmp_path / "features")
    assert [tensor.shape for tensor in index.tensors] == shapes
    stored = load_file(tmp_path / "features" / index.feature_files[0].name)
    assert stored["labels"].tolist() == [0] * 5 + [1] * 5
    assert index.numbers == stored["features"].shape[1]
    for tensor, wanted in zip(index.tensors, hooked(model, work), strict=True):
        columns = stored["features"][:, tensor.start : tensor.start + tensor.numbers]
        assert torch.equal(columns.reshape(COUNT, *tensor.shape), wanted)


@pytest.mark.parametrize(
    "make", [MODELS["residual"], lambda: timm.create_model("test_vit", img_size=SIZE)]
)
def test_positions_are_averaged(
    make: Callable[[], nn.Module], photos: Path, tmp_path: Path
) -> None:
    model = make()
    work = work_for(model, photos, pool="mean")
    index = extract(model, work, tmp_path / "features")
    stored = load_file(tmp_path / "features" / "features-00000.safetensors")["features"]
    (wanted,) = hooked(model, work)
    mean = wanted.mean((2, 3)) if wanted.dim() == 4 else wanted.mean(1)
    assert index.tensors[0].shape == mean.shape[1:]
    assert torch.equal(stored, mean)


def test_an_interrupted_run_goes_on_with_the_same_bits(photos: Path, tmp_path: Path) -> None:
    model = MODELS["residual"]()
    work = work_for(model, photos, batch_size=2, most_per_file=5)
    assert work.samples_per_file == 4
    whole = extract(model, work, tmp_path / "whole")
    assert [file.samples for file in whole.feature_files] == [4, 4, 2]

    def stop(done: int, total: int) -> None:
        if done == 6:  # of which the last two are not written yet
            raise KeyboardInterrupt

    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        extract(model, work, part, stop)
    assert [path.name for path in part.iterdir()] == ["features-00000.safetensors"]
    (part / "features-00001.draft").write_bytes(b"of a process that was killed")
    told: list[int] = []
    assert extract(model, work, part, lambda done, _: told.append(done)) == whole
    assert told == [4, 6, 8, 10]
    for file in whole.feature_files:
        one, other = (load_file(folder / file.name) for folder in (part, tmp_path / "whole"))
        assert one.keys() == other.keys() == {"features", "labels"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert {path.name for path in part.iterdir()} == {
        "index.json",
        *(file.name for file in whole.feature_files),
    }
    told.clear()
    assert extract(model, work, part, lambda done, _: told.append(done)) == whole
    assert told == [], "complete: nothing is computed"


def test_the_metadata_says_what_the_features_depend_on(photos: Path, tmp_path: Path) -> None:
    model = MODELS["residual"]()
    work = work_for(model, photos, about=(("model", "mine"),), dtype="bfloat16")
    index = extract(model, work, tmp_path / "features")
    path = tmp_path / "features" / "features-00000.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata() == index.metadata
        assert file.get_tensor("features").dtype == torch.bfloat16
    assert path.stat().st_mode == (tmp_path / "features" / "index.json").stat().st_mode
    wanted = {
        "model": "mine",
        "boundary": "layer3",
        "dtype": "bfloat16",
        "torch": torch.__version__,
    }
    assert wanted.items() <= index.metadata.items()
    assert index.metadata["transform"] == work.preprocessing.text


def test_features_of_something_else_are_not_continued(photos: Path, tmp_path: Path) -> None:
    model, folder = MODELS["residual"](), tmp_path / "features"
    work = work_for(model, photos)
    extract(model, work, folder)
    for changed, said in (
        (replace(work, dtype="float16"), "dtype was 'float32', and is 'float16'"),
        (replace(work, batch_size=5), "batch size was '4', and is '5'"),
        (work_for(model, photos, "first-n-stages:n=1"), "boundary was 'layer3', and is 'layer1'"),
        (replace(work, boundary=replace(work.boundary, weights="other")), "weights was"),
        (replace(work, images=find_images(photos / "a")), "images was"),
    ):
        with pytest.raises(OutputError, match=said):
            extract(model, changed, folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thesis.tex", "holds something else, such as 'thesis.tex'"),
        ("index.json", "is no index of features"),
        ("features-00000.safetensors", "cannot read"),
    ],
)
def test_a_foreign_folder_is_refused(name: str, said: str, photos: Path, tmp_path: Path) -> None:
    model = MODELS["residual"]()
    work = work_for(model, photos)
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=said):
        extract(model, work, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bad_images_are_named_or_skipped(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for path in photos.rglob("*.png"):
        target = root / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (root / "a" / "4.png").write_bytes((root / "a" / "4.png").read_bytes()[:400])  # truncated
    (root / "b" / "9.png").write_text("no image")
    model, folder = MODELS["residual"](), tmp_path / "features"
    work = work_for(model, root, most_per_file=4)
    with pytest.raises(
        DataError, match=r"^2 of 10 images cannot be read: 'a/4\.png' \(.*'b/9\.png'"
    ):
        extract(model, work, folder)
    assert not (folder / "index.json").exists()
    index = extract(model, replace(work, bad_images="skip"), folder)
    assert index.skipped == ("a/4.png", "b/9.png")
    assert [file.samples for file in index.feature_files] == [3, 4, 1]
    assert index.samples == len(index.files) == 8
    (folder / "index.json").unlink()  # what was skipped is in the files too
    assert extract(model, replace(work, bad_images="skip"), folder) == index
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    work = replace(work, images=find_images(root), bad_images="skip")
    with pytest.raises(DataError, match="none of the 10 images can be read"):
        extract(model, work, tmp_path / "none")


def test_the_model_is_left_as_it_was(photos: Path, tmp_path: Path) -> None:
    model = MODELS["residual"]().train()
    model.layer2.eval()
    model.conv1.weight.requires_grad_(False)

    def state() -> tuple[Any, ...]:
        tensors = [t.clone() for t in model.state_dict().values()]
        flags = [p.requires_grad for p in model.parameters()]
        return tensors, flags, [m.training for m in model.modules()], torch.get_rng_state()

    before = state()
    extract(model, work_for(model, photos), tmp_path / "features")
    for one, other in zip(before[0], state()[0], strict=True):
        assert torch.equal(one, other)
    assert before[1:3] == state()[1:3]
    assert torch.equal(before[3], state()[3])


def test_features_too_large_for_the_type_are_refused(photos: Path, tmp_path: Path) -> None:
    model = MODELS["residual"]()
    with torch.no_grad():
        model.layer3[0].bn2.weight.fill_(1e9)
    work = work_for(model, photos, dtype="float16")
    with pytest.raises(CacheError, match="too large for float16; take bfloat16 or float32"):
        extract(model, work, tmp_path / "features")


def test_what_has_no_boundary_is_refused() -> None:
    def find(model: nn.Module, spec: Any, shape: tuple[int, int, int] = (3, 32, 32)) -> Boundary:
        return find_boundary(model, spec, shape)

    model = MODELS["residual"]()
    with pytest.raises(CacheError, match="freeze a prefix, as first-n-stages and head-only do"):
        find(model, "full")
    with pytest.raises(ModelError, match=r"does not take images of \(4, 1, 32, 32\)"):
        find(model, "head-only", (1, 32, 32))
    freeze_(model, "head-only")
    with pytest.raises(FreezeError, match=r"call undo\(\) of its handle"):
        find(model, "head-only")


def test_a_stage_gives_what_it_returns() -> None:
    """A pooling belongs to the head, and the shortcut of the next stage begins with one."""
    model = timm.create_model("test_resnet")

    def found(spec: str | None, stage: str | None = None, size: int = SIZE) -> list[Any]:
        boundary = find_boundary(model, spec, (3, size, size), stage=stage)
        return [(tensor.name, tensor.shape) for tensor in boundary.tensors]

    assert found(None, "layer2") == [("layer2", (48, 4, 4))]
    assert found(None, "layer4") == [("layer4", (96, 1, 1))]
    assert found(None, "head") == [("output", (1000,))]
    assert found(None, size=64) == [("global_pool", (96,))]
    assert found("first-n-stages:n=2") == [("layer2", (48, 4, 4))], "and no pooling of layer3"
    with pytest.raises(SpecError, match=r"no stage 'layer9', did you mean .* The stages are stem,"):
        found(None, "layer9")


def test_a_model_without_a_classifier_gives_its_output(photos: Path, tmp_path: Path) -> None:
    model = timm.create_model("test_vit", img_size=SIZE, num_classes=0)
    work = work_for(model, photos, None)
    index = extract(model, work, tmp_path / "features")
    assert [(tensor.name, tensor.shape) for tensor in index.tensors] == [("output", (64,))]
    stored = load_file(tmp_path / "features" / "features-00000.safetensors")
    assert torch.equal(stored["features"], hooked(model, work)[0])
    own = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AvgPool2d(15), nn.Flatten(), nn.LayerNorm(8))
    assert [t.name for t in find_boundary(own, None, (3, SIZE, SIZE)).tensors] == ["output"]


def test_a_disk_that_is_too_small_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"take 4\.19e\+06 TiB, and the disk of .* free; free"):
        check_space(tmp_path, 2**62)
