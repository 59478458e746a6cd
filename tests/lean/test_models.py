"""Whole models, lean beside stock: the same loss and gradients, bit by bit, and less memory."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer

from freezekit import FreezeError, FreezekitWarning, freeze_, load_backbone, plan
from freezekit.bench.memory import traced_memory
from freezekit.bench.workload import Session
from freezekit.model.loss import loss_function
from freezekit.results.records import Workload
from tests.sampled import sampled

SPECS = (
    "full",
    "batch-norm",
    "norm-only",
    "bias-only",
    "surgical:stages=stem",
    "first-n-stages:n=2",
)
# One of each kind of block: residual, inverted, fused norms, dense, weight-standardised, attention.
MODELS = {
    "timm:test_resnet": SPECS,
    "timm:test_efficientnet": SPECS,
    "torchvision:mobilenet_v3_small": SPECS,
    "torchvision:mobilenet_v2": ("batch-norm", "bias-only"),
    "torchvision:shufflenet_v2_x0_5": ("batch-norm", "surgical:stages=stem"),
    "timm:regnety_002": ("norm-only", "surgical:stages=stem"),
    "timm:test_byobnet": SPECS,
    "timm:test_nfnet": ("bias-only", "surgical:stages=stem"),
    "timm:test_convnext": ("full", "bias-only"),
    "timm:test_vit": ("full", "bias-only", "first-n-stages:n=2"),
    "timm:swin_s3_tiny_224": ("full", "norm-only"),
    "timm:fastvit_t8": ("bias-only",),
}
# The rules are tested function by function with both cores, and the native one on all models.
IN_PYTHON = {name: MODELS[name] for name in ("timm:test_resnet", "timm:test_efficientnet")} | {
    "timm:test_vit": ("full",),
    "timm:test_convnext": ("full",),
}
SIZES = {"timm:test_vit": 160, "timm:swin_s3_tiny_224": 224}
# Every kind of block, plain and shifted, and each of them once: the full models take long.
FEWER = {
    "timm:swin_s3_tiny_224": {"depths": (2, 2, 2, 2), "embed_dim": 48},
    "timm:fastvit_t8": {"layers": (1, 1, 1, 1)},
}


def images(size=64, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("core", "name", "spec"),
    sampled([("native", name, spec) for name, specs in MODELS.items() for spec in specs], every=3)
    + [("python", name, spec) for name, specs in IN_PYTHON.items() for spec in specs],
    indirect=["core"],
)
def test_every_bit_is_stocks_and_memory_never_more(core, name, spec, twins, assert_same, step):
    stock, lean = twins(load_backbone(name, **FEWER.get(name, {})), spec)
    x = images(SIZES.get(name, 64))
    assert_same(stock, lean, lambda model: step(model, x))
    ours, theirs = _memory(lean, x), _memory(stock, x)
    assert ours.saved_activations_bytes <= theirs.saved_activations_bytes
    assert ours.tracker_peak_bytes <= theirs.tracker_peak_bytes


def _memory(model, x):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    loss = loss_function("image", None)
    session = Session(Workload("-", batch_size=len(x)), model, None, optimizer, (x,), loss)
    return traced_memory(session)[0]


def test_what_the_middle_of_a_resnet_costs_when_nothing_of_it_trains(twins):
    # A bit for each ReLU, a byte for each pooling window, and the input of fc: nothing else.
    stock, lean = twins(
        load_backbone("torchvision:resnet18"), r"by-name:regex=^(conv1|fc)\.,invert=true"
    )
    elements = 64 * 32 * 32 + sum(
        2 * 2 * channels * size * size
        for channels, size in ((64, 16), (128, 8), (256, 4), (512, 2))
    )
    expected = 2 * (elements // 8 + 64 * 16 * 16 + 512 * 4)
    loss = 2 * 1000 * 4 + 4  # cross-entropy keeps log-probabilities and the sum of weights
    assert _memory(lean, images()).saved_activations_bytes == expected + loss
    assert _memory(stock, images()).saved_activations_bytes > 25 * expected


def test_googlenet_calls_functions_and_has_side_exits(twins, assert_same, step):
    model = load_backbone("torchvision:googlenet", num_classes=10)
    stock, lean = twins(model, "batch-norm")
    assert_same(stock, lean, lambda model: step(model, images()))


@pytest.mark.parametrize(
    "name", sampled(["timm:test_efficientnet", "timm:test_resnet", "timm:test_vit"], every=3)
)
def test_autocast(name, twins, assert_same, step):
    def run(model):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return step(model, images(SIZES.get(name, 64)))

    for spec in ("full", "bias-only", "surgical:stages=stem"):
        assert_same(*twins(load_backbone(name), spec), run)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("spec", sampled(["full", "bias-only", "surgical:stages=stem"], every=3))
def test_other_types(dtype, spec, twins, assert_same, step):
    for name in ("timm:test_efficientnet", "timm:test_vit"):
        stock, lean = twins(load_backbone(name).to(dtype), spec)
        x = images(SIZES.get(name, 64)).to(dtype)
        assert_same(stock, lean, lambda model, x=x: step(model, x))


@pytest.mark.parametrize(
    "spec", sampled(["full", "batch-norm", "bias-only", "surgical:stages=stem"], every=4)
)
def test_channels_last(spec, twins, assert_same, step):
    last = torch.channels_last
    for name in ("timm:test_resnet", "timm:test_efficientnet", "torchvision:mobilenet_v3_small"):
        loaded = load_backbone(name)
        decided = plan(loaded, spec)
        for weights, x in ((last, last), (last, torch.contiguous_format), (None, last)):
            model = copy.deepcopy(loaded)
            model = model.to(memory_format=weights) if weights else model
            stock, lean = twins(model, decided)
            given = images().contiguous(memory_format=x)
            assert_same(stock, lean, lambda model, given=given: step(model, given))


def small_vit():
    """Return a ViT of torchvision's, whose attention has a fast path where nothing trains."""
    sizes = {"image_size": 64, "patch_size": 16, "hidden_dim": 32, "mlp_dim": 64}
    return VisionTransformer(**sizes, num_layers=4, num_heads=2, num_classes=5)


@pytest.mark.parametrize("spec", ["first-n-stages:n=2", "bias-only"])
def test_frozen_attention_takes_its_fast_path_as_it_does_in_stock(spec, twins, assert_same, step):
    stock, lean = twins(small_vit(), spec)
    assert_same(stock, lean, lambda model: step(model, images()))
    fast = _calls(stock, "aten::_native_multi_head_attention")
    assert fast == _calls(lean, "aten::_native_multi_head_attention")
    assert bool(fast) == (spec == "first-n-stages:n=2")


def _calls(model, op):
    with torch.profiler.profile(acc_events=True) as profile:
        model(images())
    return sum(event.count for event in profile.key_averages() if event.key == op)


def test_a_layer_with_a_fast_path_is_left_as_it_was_and_copied_as_a_replica():
    model = small_vit()
    frozen = freeze_(model, "first-n-stages:n=2", lean=True)
    layer = model.encoder.layers[0].self_attention
    replica = layer._replicate_for_data_parallel()
    assert replica.forward.module is replica
    assert torch.equal(pickle.loads(pickle.dumps(model)).eval()(images()), model.eval()(images()))
    frozen.undo()
    assert not any("forward" in vars(module) for module in model.modules())


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = load_backbone("timm:test_resnet")

    def forward(self, x):
        net = self.backbone
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        x = net.layer2(checkpoint(net.layer1, x, use_reentrant=False))
        return net.forward_head(net.layer4(net.layer3(x)))


def test_gradient_checkpointing(twins, assert_same):
    assert_same(*twins(Checkpointed(), "by-name:contains=layer"))
    model = load_backbone("timm:test_vit")
    model.set_grad_checkpointing()
    stock, lean = twins(model, "bias-only")
    assert_same(stock, lean, lambda m: _two(m, images(160)))


def _two(model, x):
    """Return the gradients of two steps, added up."""
    model.zero_grad()
    for _ in range(2):
        model(x).square().mean().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_gradients_add_up_over_steps(twins, assert_same):
    stock, lean = twins(load_backbone("timm:test_efficientnet"), "norm-only")
    assert_same(stock, lean, lambda m: _two(m, images()))


def test_without_gradients_and_in_eval_mode_nothing_changes(twins):
    stock, lean = twins(load_backbone("timm:test_efficientnet"), "norm-only")
    with torch.no_grad():
        assert torch.equal(lean.eval()(images()), stock.eval()(images()))
    with torch.inference_mode():
        assert torch.equal(lean(images()), stock(images()))
    assert torch.equal(lean(images()), stock(images()))


def test_a_forward_without_backward_leaves_nothing(twins):
    class Net(nn.Sequential):
        pass

    net = Net(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.2, inplace=True), nn.MaxPool2d(2))
    net.append(nn.Sequential(nn.SiLU(), nn.Conv2d(8, 8, 1)))
    _, lean = twins(net, "by-name:contains=0.weight")
    from freezekit.memory.tracker import StorageTracker

    tracker = StorageTracker("cpu")
    tracker.add(lean.parameters())
    with tracker:
        for _ in range(3):
            lean(images())
            held = tracker.current_bytes
    assert held == sum(p.nbytes for p in lean.parameters())


def test_no_key_class_or_hook_changes_and_undo_leaves_no_trace():
    model = load_backbone("timm:test_resnet")
    keys, kinds = list(model.state_dict()), [type(m) for m in model.modules()]
    before = set(vars(model))
    frozen = freeze_(model, "batch-norm", lean=True)
    assert frozen.lean
    assert "lean" in repr(frozen)
    assert "lean" in frozen.report()
    assert list(model.state_dict()) == keys
    assert [type(m) for m in model.modules()] == kinds
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    frozen.undo()
    assert set(vars(model)) == before
    assert "forward" not in vars(model)


def test_freezing_again_replaces_lean_too():
    model = load_backbone("timm:test_resnet")
    first = freeze_(model, "batch-norm", lean=True)
    with pytest.warns(FreezekitWarning, match="thaws 15 parameter"):  # the biases of norms
        second = freeze_(model, "bias-only")
    assert not second.lean
    assert "forward" not in vars(model)
    with pytest.raises(FreezeError, match="no longer in force"):
        first.undo()


def test_a_forward_that_somebody_put_there_runs_and_comes_back():
    model = load_backbone("timm:test_resnet")
    own = model.forward
    model.forward = lambda x: own(x) * 2
    theirs = model.forward
    expected = model.eval()(images())
    frozen = freeze_(model, "by-name:contains=layer", lean=True)
    assert torch.equal(model(images()), expected)
    frozen.undo()
    assert model.forward is theirs


def test_undo_where_somebody_has_wrapped_the_forward_since():
    model = load_backbone("timm:test_resnet")
    frozen = freeze_(model, "bias-only", lean=True)
    lean = model.forward
    model.forward = lambda x: lean(x) * 2  # as accelerate does
    saved = _memory(model, images()).saved_activations_bytes
    frozen.undo()
    assert _memory(model, images()).saved_activations_bytes > 2 * saved
    freeze_(model, "by-name:contains=layer").undo()
    del model.forward
    freeze_(model, "bias-only", lean=True)
    del model.forward
    freeze_(model, "bias-only").undo()


def test_export_and_scripting_say_what_to_do():
    model = load_backbone("timm:test_resnet").eval()
    frozen = freeze_(model, "bias-only", lean=True)
    expected = model(images())
    assert torch.allclose(torch.fx.symbolic_trace(model)(images()), expected, atol=1e-5)
    with (
        warnings.catch_warnings(action="ignore", category=FutureWarning),  # it is deprecated
        pytest.raises(FreezeError, match=r"call undo\(\) on the handle"),  # it has held modules
    ):
        torch.jit.script(model)
    with pytest.raises(AttributeError, match=r"call undo\(\) on the handle"):
        torch.export.export(model, (images(),))
    frozen.undo()
    exported = torch.export.export(model, (images(),)).module()
    assert torch.allclose(exported(images()), expected, atol=1e-5)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_lean_too_and_run_their_own_weights(way, assert_same):
    model = load_backbone("timm:test_resnet")
    freeze_(model, "surgical:stages=stem", lean=True)
    if way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert_same(model, other)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(images()).any()
    assert model(images()).any()
    saved = _memory(model, images()).saved_activations_bytes
    assert _memory(other, images()).saved_activations_bytes == saved


def test_the_replicas_of_data_parallel_run_their_own_weights():
    model = load_backbone("timm:test_resnet")
    freeze_(model, "surgical:stages=stem", lean=True)
    replica = model._replicate_for_data_parallel()
    assert replica.forward.module is replica
    replica.fc = nn.Identity()
    replica.head = nn.Identity()
    assert replica(images()).shape != model(images()).shape


def test_distributed_data_parallel(tmp_path, twins, assert_same):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        stock, lean = twins(load_backbone("timm:test_resnet"), "bias-only")
        wrap = nn.parallel.DistributedDataParallel
        assert_same(wrap(stock), wrap(lean))
    finally:
        torch.distributed.destroy_process_group()


def test_the_signature_of_forward_is_the_models_own():
    model = load_backbone("torchvision:raft_small", device="meta")
    expected = inspect.signature(model.forward)
    freeze_(model, "bias-only", lean=True)
    assert inspect.signature(model.forward) == expected


@pytest.mark.filterwarnings("ignore:lean has no effect in this compiled model")
@pytest.mark.exhaustive
def test_models_that_another_backend_compiles_are_left_alone(twins, assert_same):
    torch._dynamo.reset()
    stock, lean = twins(load_backbone("timm:test_resnet"), "surgical:stages=stem")
    compiled = torch.compile(lean, backend="aot_eager", fullgraph=True)
    theirs = torch.compile(stock, backend="aot_eager", fullgraph=True)
    assert_same(theirs, compiled)


def test_a_compiled_part_of_a_lean_model(twins, assert_same):
    torch._dynamo.reset()
    stock, lean = twins(load_backbone("timm:test_resnet"), "surgical:stages=stem")
    for model in (stock, lean):
        model.layer2.compile(backend="aot_eager")
    with warnings.catch_warnings(action="ignore"):  # torch's own, stock or lean
        assert_same(stock, lean)


def test_tracing_and_functional_transforms_see_the_model_as_it_is(twins):
    stock, lean = twins(load_backbone("timm:test_resnet"), "surgical:stages=stem")
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # it is deprecated
        traced = torch.jit.trace(lean.eval(), images())
    assert torch.allclose(traced(images()), stock.eval()(images()))
    parameters = {n: p.detach() for n, p in stock.named_parameters()}

    def loss(values, model):
        return torch.func.functional_call(model, values, (images(),)).sum()

    ours = torch.func.grad(loss)(parameters, lean)
    theirs = torch.func.grad(loss)(parameters, stock)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with (
        warnings.catch_warnings(action="ignore", category=FutureWarning),  # torch's own
        torch.autograd.forward_ad.dual_level(),
    ):
        dual = torch.autograd.forward_ad.make_dual(images(), torch.ones_like(images()))
        tangent = torch.autograd.forward_ad.unpack_dual(lean(dual)).tangent
        assert torch.equal(tangent, torch.autograd.forward_ad.unpack_dual(stock(dual)).tangent)


def test_verify_proves_a_lean_model():
    model = load_backbone("timm:test_resnet")
    assert freeze_(model, "first-n-stages:n=1", lean=True).verify(images()).passed
