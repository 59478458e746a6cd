"""torchvision's detectors and segmentation models, and what its reference scripts do."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LinearLR, MultiStepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import detection, get_model, segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops._utils import split_normalization_params

from freezekit import FreezePlan, freeze_

if TYPE_CHECKING:
    from freezekit.handle.frozen import Frozen

SMALL = {"min_size": 64, "max_size": 64}
FEW_REGIONS = {**SMALL, "rpn_post_nms_top_n_train": 50, "box_batch_size_per_image": 16}
DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": FEW_REGIONS,
    "maskrcnn_resnet50_fpn": FEW_REGIONS,
    "retinanet_resnet50_fpn": SMALL,
    "fcos_resnet50_fpn": SMALL,
    "ssdlite320_mobilenet_v3_large": {},
}


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, tensor in bits(model).items() if not torch.equal(before[name], tensor)}


def held(frozen: Frozen) -> set[str]:
    """Frozen parameters, and the buffers of what is held."""
    model, plan = frozen.backbone.model, frozen.plan
    buffers = {
        f"{module}.{name}"
        for module in plan.eval_modules or ()
        for name, _ in model.get_submodule(module).named_buffers(recurse=False)
    }
    return {*plan.frozen, *buffers} & model.state_dict().keys()


def images_and_targets(size: int = 64) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.rand(3, size, size), torch.rand(3, size, size - 8)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 30.0], [10.0, 20.0, 50.0, 55.0]])
    masks = [(torch.rand(2, *image.shape[1:]) > 0.5).to(torch.uint8) for image in images]
    labels = torch.tensor([1, 2])
    return images, [{"boxes": boxes, "labels": labels, "masks": mask} for mask in masks]


def detector_steps(model: nn.Module, frozen: Frozen, steps: int = 2) -> list[dict[str, float]]:
    optimizer = torch.optim.SGD(frozen.param_groups(1e-4, weight_decay=1e-4), momentum=0.9)
    torch.manual_seed(1)  # detectors sample their proposals
    seen = []
    for _ in range(steps):
        model.train()
        losses = model(*images_and_targets())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        seen.append({name: value.item() for name, value in losses.items()})
    return seen


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=(pytest.mark.slow, pytest.mark.exhaustive)[i > 1] if i else ())
        for i, n in enumerate(DETECTORS)
    ],
)
def test_a_detector_trains_with_its_prefix_frozen_and_lean_has_the_same_bits(name: str) -> None:
    found = []
    wanted: str | FreezePlan = "first-n-stages:n=3"
    for lean in (False, True):
        torch.manual_seed(0)
        build = getattr(detection, name)
        model = build(weights=None, weights_backbone=None, num_classes=3, **DETECTORS[name])
        frozen = freeze_(model, wanted, lean=lean)
        wanted = frozen.plan  # the stages are found once
        before = bits(model)
        losses = detector_steps(model, frozen)
        assert all(math.isfinite(value) for step in losses for value in step.values())
        changed = moved(before, model)
        assert not changed & held(frozen)
        assert any("running_mean" in n for n in held(frozen))
        parts = {n.split(".")[0] for n, _ in model.named_parameters()}
        assert {n.split(".")[0] for n in changed} == parts, "the heads, and the rest of the body"
        found.append((losses, bits(model)))
    (stock, weights), (lean_losses, lean_weights) = found
    assert stock == lean_losses
    assert all(torch.equal(weights[n], lean_weights[n]) for n in weights)


def test_statistics_of_layers_that_torchvision_froze_move_until_they_are_held() -> None:
    """`trainable_layers` sets flags alone, which is right for FrozenBatchNorm2d only."""
    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=3
    )
    model = detection.FasterRCNN(body, 3, **FEW_REGIONS)
    frozen_names = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert "backbone.body.bn1.weight" in frozen_names
    before = bits(model)
    model.train()(*images_and_targets())
    drifted = moved(before, model)
    assert {"backbone.body.bn1.running_mean", "backbone.body.layer1.0.bn1.running_var"} <= drifted
    model.load_state_dict(before)
    frozen = freeze_(model, "full")
    assert frozen_names == frozen.plan.frozen
    detector_steps(model, frozen)
    changed = moved(before, model)
    assert not {n for n in changed if n.startswith(("backbone.body.bn1", "backbone.body.layer1"))}
    frozen.undo()
    assert freeze_(model, "full", thaw=True).plan.frozen == frozenset()


def test_a_phase_that_begins_within_the_warm_up_of_the_detection_script() -> None:
    """The script makes the scheduler of the first epoch within it, where `follow` has begun."""
    torch.manual_seed(0)
    model = get_model("mobilenet_v3_small", weights=None, num_classes=3)
    frozen = freeze_(model, "full")
    phases = "full then discriminative-lr:decay=0.5 at 2step"
    groups = frozen.param_groups(0.1, all_phases=phases)
    optimizer = torch.optim.SGD(groups)
    steps = MultiStepLR(optimizer, milestones=[1], gamma=0.1)
    run = frozen.follow(phases, optimizer, [steps], epochs=2, steps_per_epoch=4)
    for epoch in range(2):
        warm_up = LinearLR(optimizer, start_factor=0.001, total_iters=3) if epoch == 0 else None
        for step in range(4):
            optimizer.step()
            if warm_up is not None:
                warm_up.step()
            run.step()
            grown = min(1.0, 0.001 + 0.999 * (step + 1) / 3) if epoch == 0 else 0.1
            for group in optimizer.param_groups:
                scale = group["freezekit_lr_multiplier"]
                assert group["lr"] == pytest.approx(0.1 * scale * grown)
        steps.step()
        run.epoch()
    assert len({group["freezekit_lr_multiplier"] for group in optimizer.param_groups}) > 2


def test_groups_of_the_scripts_leave_out_what_is_frozen() -> None:
    model = get_model("resnet18", weights=None, num_classes=3)
    everything = split_normalization_params(model)
    frozen = freeze_(model, "first-n-stages:n=2")
    norms, others = split_normalization_params(model)
    trained = {id(p) for n, p in model.named_parameters() if n not in frozen.plan.frozen}
    assert {id(p) for p in (*norms, *others)} == trained
    optimizer = torch.optim.SGD(
        [{"params": norms, "weight_decay": 0.0}, {"params": others, "weight_decay": 1e-4}], lr=0.1
    )
    assert frozen.verify(torch.rand(2, 3, 32, 32), optimizer=optimizer).passed
    whole = torch.optim.SGD([{"params": list(part)} for part in everything], lr=0.1)
    frozen.follow("head-only then full at 1ep", whole, epochs=2).close()


def test_an_average_of_equal_numbers_is_equal_with_lerp_alone() -> None:
    torch.manual_seed(0)
    model = get_model("resnet18", weights=None, num_classes=3)
    frozen = freeze_(model, "head-only")

    def as_in_the_script(average: Tensor, value: Tensor, _: Any) -> Tensor:
        return 0.9 * average + (1 - 0.9) * value

    by_formula = AveragedModel(model, avg_fn=as_in_the_script)
    by_lerp = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    before = {name: tensor for name, tensor in bits(model).items() if name in held(frozen)}
    for _ in range(4):
        for averaged in (by_formula, by_lerp):
            averaged.update_parameters(model)
    assert len(before) > 100
    for averaged, is_equal in ((by_formula, False), (by_lerp, True)):
        now = averaged.module.state_dict()
        assert all(torch.equal(now[name], before[name]) for name in before) is is_equal
        assert all(torch.allclose(now[name], before[name]) for name in before)


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_a_segmentation_model_with_its_head_and_its_auxiliary_classifier(name: str) -> None:
    torch.manual_seed(0)
    has_aux = name.startswith("deeplab")
    options: dict[str, Any] = {"aux_loss": True} if has_aux else {}
    model = getattr(segmentation, name)(
        weights=None, weights_backbone=None, num_classes=4, **options
    )
    rates = {model.backbone: 0.01, model.classifier: 0.01}
    if has_aux:
        rates[model.aux_classifier] = 0.1
    optimizer = torch.optim.SGD(
        [{"params": part.parameters(), "lr": lr} for part, lr in rates.items()],
        momentum=0.9,
        weight_decay=1e-4,
    )
    frozen = freeze_(model, "full")
    run = frozen.follow("head-only then first-n-stages:n=3 at 1ep", optimizer, epochs=2)
    for epoch in range(2):
        before, fixed = bits(model), held(frozen)
        for _ in range(2):
            model.train()
            output = model(torch.rand(2, 3, 64, 64))
            labels = torch.randint(4, (2, 64, 64))
            loss = cross_entropy(output["out"], labels)
            if has_aux:
                loss = loss + 0.5 * cross_entropy(output["aux"], labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step()
        changed = moved(before, model)
        assert not changed & fixed
        heads = {"classifier", "aux_classifier"} if has_aux else {"classifier"}
        assert {n.split(".")[0] for n in changed} == heads | ({"backbone"} if epoch else set())
        run.epoch()
    assert [group["lr"] for group in optimizer.param_groups] == [*rates.values()]


def test_the_frozen_backbone_of_a_segmentation_model_is_cached_with_its_masks() -> None:
    torch.manual_seed(0)
    build = segmentation.lraspp_mobilenet_v3_large
    model = build(weights=None, weights_backbone=None, num_classes=4)
    frozen = freeze_(model, "head-only")
    data = TensorDataset(torch.rand(4, 3, 64, 64), torch.randint(4, (4, 64, 64)))
    cached = frozen.cache(data, batch_size=2)
    model.train()
    for (images, labels), (features, same) in zip(
        DataLoader(data, batch_size=2), DataLoader(cached, batch_size=2), strict=True
    ):
        other = deepcopy(model)
        assert torch.equal(labels, same)
        assert torch.equal(model(features)["out"], other(images)["out"])
