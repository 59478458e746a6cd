"""Every function that has a rule: the same gradients, and the bytes that its formula needs."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from freezekit.lean import Lean
from freezekit.memory.tracker import StorageTracker

pytestmark = pytest.mark.usefixtures("core")
SHAPE = (4, 8, 16, 16)
MAP = 4 * 8 * 16 * 16  # elements
BYTES = 4 * MAP


mean, variance = torch.randn(8), torch.rand(8) + 0.5


class Around(nn.Module):
    """One function between two sums, so that nothing else keeps its input or its output."""

    def __init__(self, function, *parameters):
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(parameters)
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.function(x + self.shift, *self.weights) + 1


def frozen(*shape):
    generator = torch.Generator().manual_seed(5)
    return nn.Parameter(torch.randn(shape, generator=generator), requires_grad=False)


def trained(*shape):
    return nn.Parameter(frozen(*shape).detach())


def lean(model):
    Lean(model).attach()
    return model


def gradients(model, x):
    torch.manual_seed(3)
    x = x.clone().requires_grad_()
    out = model(x)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out))
    return [out.detach(), x.grad, *(p.grad for p in model.parameters())]


def saved_bytes(model, x):
    """Return the bytes that the graph holds beside what was there before."""
    held = StorageTracker("cpu")
    held.add([x, mean, variance, *model.parameters(), *model.buffers()])
    with held:
        before = held.current_bytes
        graph = model(x).grad_fn
        after = held.current_bytes
    assert graph is not None
    return after - before


def check(function, expected, *parameters, shape=SHAPE, x=None, dtype=torch.float32):
    """Compare with stock, and count."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) if x is None else x
    x = x.to(dtype)
    stock = copy.deepcopy(Around(function, *parameters)).to(dtype)  # gradients stay here
    ours = lean(copy.deepcopy(stock))
    for a, b in zip(gradients(ours, x), gradients(stock, x), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    kept = saved_bytes(ours, x)
    assert kept <= saved_bytes(stock, x)
    if expected is not None:
        assert kept == expected


@pytest.mark.parametrize(
    ("function", "parameters", "shape"),
    [
        (lambda x, w: F.conv2d(x, w, padding=1), [frozen(8, 8, 3, 3)], SHAPE),
        (lambda x, w: F.conv2d(x, w, stride=2), [frozen(8, 8, 3, 3)], SHAPE),
        (lambda x, w: F.conv2d(x, w, padding="same", groups=8), [frozen(8, 1, 3, 3)], SHAPE),
        (lambda x, w: F.conv2d(x, w, groups=8), [frozen(8, 1, 1, 1)], SHAPE),
        (lambda x, w: F.conv2d(input=x, weight=w, dilation=2), [frozen(4, 8, 3, 3)], SHAPE),
        (lambda x, w, b: F.conv2d(x, w, b), [frozen(4, 8, 1, 1), frozen(4)], SHAPE),
        (lambda x, w, b: F.conv2d(x, w, b), [frozen(4, 8, 3, 3), trained(4)], SHAPE),
        (F.conv1d, [frozen(4, 8, 3)], (2, 8, 256)),
        (F.conv3d, [frozen(4, 8, 3, 3, 3)], (2, 8, 8, 8, 8)),
        (F.conv_transpose1d, [frozen(8, 4, 3)], (2, 8, 256)),
        (F.conv_transpose2d, [frozen(8, 4, 3, 3)], SHAPE),
        (lambda x, w: F.conv_transpose2d(x, w, groups=2), [frozen(8, 4, 3, 3)], SHAPE),
        (F.conv_transpose3d, [frozen(8, 4, 3, 3, 3)], (2, 8, 8, 8, 8)),
        (lambda x: F.batch_norm(x, mean, variance), [], SHAPE),
        (lambda x, w, b: F.batch_norm(x, mean, variance, w, b), [frozen(8), frozen(8)], SHAPE),
        (lambda x, w, b: F.batch_norm(x, mean, variance, w, b), [frozen(8), trained(8)], SHAPE),
        (lambda x, w: F.batch_norm(x, mean, variance, w), [frozen(8)], (64, 8, 16)),
        (lambda x, w: F.batch_norm(x, mean, variance, w), [frozen(8)], (2, 8, 4, 8, 8)),
        (lambda x, w: F.batch_norm(x, mean, variance, w), [frozen(8)], (512, 8)),
        (lambda x: F.avg_pool2d(x, 3, 2), [], SHAPE),
        (lambda x: F.avg_pool1d(x, 3), [], (2, 8, 256)),
        (lambda x: F.avg_pool3d(x, 2), [], (2, 8, 8, 8, 8)),
        (lambda x: F.adaptive_avg_pool2d(x, 5), [], SHAPE),
        (lambda x: F.adaptive_avg_pool2d(x, 1), [], SHAPE),
        (lambda x: F.pad(x, (1, 2, 3, 4), mode="reflect"), [], SHAPE),
        (lambda x: F.pad(x, (1, 2, 3, 4), mode="replicate"), [], SHAPE),
        (lambda x: F.pad(x, (1, 2, 3, 4)), [], SHAPE),
        (lambda x: torch._C._nn.adaptive_avg_pool2d(x, 5), [], SHAPE),
        (lambda x: torch._C._nn.adaptive_avg_pool3d(x, 5), [], (2, 8, 8, 8, 8)),
        (lambda x: torch._C._nn.pad(x, (1, 2, 3, 4), mode="reflect"), [], SHAPE),
        (lambda x: torch._C._nn.pad(x, (1, 2, 3, 4)), [], SHAPE),
        (lambda x: torch._C._nn.reflection_pad1d(x, (1, 2)), [], (2, 8, 256)),
        (lambda x: torch._C._nn.reflection_pad2d(x, (1, 2, 3, 4)), [], SHAPE),
        (lambda x: torch._C._nn.reflection_pad3d(x, [1] * 6), [], (2, 8, 8, 8, 8)),
        (lambda x: torch._C._nn.replication_pad1d(x, (1, 2)), [], (2, 8, 256)),
        (lambda x: torch._C._nn.replication_pad2d(x, (1, 2, 3, 4)), [], SHAPE),
        (lambda x: torch._C._nn.replication_pad3d(x, [1] * 6), [], (2, 8, 8, 8, 8)),
    ],
)
def test_what_needs_the_shape_alone_keeps_nothing(function, parameters, shape):
    check(function, 0, *parameters, shape=shape)


@pytest.mark.parametrize("layout", ["sliced", "channels last", "expanded", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_inputs_in_any_layout(layout, dtype):
    x = {
        "sliced": torch.randn(4, 8, 16, 32)[..., ::2],
        "channels last": torch.randn(SHAPE).contiguous(memory_format=torch.channels_last),
        "expanded": torch.randn(4, 8, 1, 16).expand(SHAPE),
        "transposed": torch.randn(SHAPE).transpose(2, 3),
    }[layout]
    last = frozen(8, 8, 3, 3)
    last.data = last.data.contiguous(memory_format=torch.channels_last)

    def around(function):
        return lambda x, *w: function(_laid_out_as(x, layout), *w)

    for function, *parameters in (
        (lambda x, w: F.conv2d(x, w, padding=1), frozen(8, 8, 3, 3)),
        (lambda x, w: F.conv2d(x, w, padding=1), last),
        (lambda x, w: F.conv2d(x, w, padding=1, groups=4), frozen(8, 2, 3, 3)),
        (lambda x, w: F.conv2d(x, w, groups=4), frozen(8, 2, 1, 1)),
        (F.relu,),
        (F.relu6,),
        (F.hardsigmoid,),
        (lambda x: F.relu(x * 1, inplace=True),),
        (lambda x: F.max_pool2d(x, 3, 2, 1),),
        (lambda x: F.avg_pool2d(x, 3),),
        (lambda x: F.adaptive_avg_pool2d(x, 4),),
        (lambda x: F.dropout(x, 0.3),),
        (F.silu,),
    ):
        check(around(function), None, *parameters, x=x, dtype=dtype)
    norm = lambda x: F.batch_norm(x, mean.to(dtype), variance.to(dtype))  # noqa: E731
    check(around(norm), None, x=x, dtype=dtype)


def _laid_out_as(x, layout):
    """Addition answers in a dense layout; these are not."""
    if layout == "sliced":
        return torch.cat([x, x], -1)[..., ::2]
    return x[..., :1, :].expand(x.shape) if layout == "expanded" else x


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        torch.relu,
        torch.Tensor.relu,
        nn.ReLU(),
        nn.ReLU6(),
        F.relu6,
        F.hardtanh,
        lambda x: F.hardtanh(x, -0.3, 0.2),
        F.leaky_relu,
        lambda x: F.leaky_relu(x, 0.3),
        F.hardsigmoid,
        lambda x: F.relu(x + 1, inplace=True),
        lambda x: torch.relu_(x + 1),
        lambda x: (x + 1).relu_(),
        lambda x: F.relu6(x * 3 + 3, inplace=True),
        lambda x: F.hardsigmoid(x * 3 + 1, inplace=True),
        lambda x: F.leaky_relu(x + 1, 0.2, inplace=True),
        lambda x: F.dropout(x, 0.3),
        nn.Dropout(0.3),
        lambda x: torch.dropout(x, 0.3, True),
        lambda x: torch.dropout(x, p=0.3, train=True),
        lambda x: torch.dropout_(x * 1, 0.3, True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_asks_one_bit_keeps_one_bit(function, dtype):
    check(function, MAP // 8, dtype=dtype)


def test_what_is_small_is_not_worth_the_time():
    check(F.relu, 4 * 1024, shape=(1024,))
    check(lambda x: F.max_pool2d(x, 2), None, shape=(2, 2, 8, 8))


def test_bits_at_the_bounds_beyond_them_and_where_there_is_no_number():
    inf, nan = float("inf"), float("nan")
    few = [0.0, -0.0, 1e-45, -1e-45, 6.0, 5.9999995, 3.0, 2.9999998, -3.0, -2.9999998, inf, -inf]
    # torch's own hardtanh treats a NaN differently in what is left over from its vectors
    for x in (torch.tensor([nan, *few]).repeat(512), torch.tensor(few).repeat(401)[:-1]):
        for function in (F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.hardsigmoid):
            stock, ours = Around(function), lean(Around(function))
            for a, b in zip(gradients(ours, x)[:2], gradients(stock, x)[:2], strict=True):
                assert torch.equal(a.nan_to_num(9.0), b.nan_to_num(9.0))


@pytest.mark.parametrize(
    ("function", "pooled", "shape"),
    [
        (lambda x: F.max_pool2d(x, 3, 2, 1), 4 * 8 * 8 * 8, SHAPE),
        (nn.MaxPool2d(2), 4 * 8 * 8 * 8, SHAPE),
        (lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2)), 4 * 8 * 8 * 14, SHAPE),
        (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), 4 * 8 * 8 * 8, SHAPE),
        (lambda x: F.max_pool1d(x, 3, 2), 2 * 8 * 127, (2, 8, 256)),
        (lambda x: torch.max_pool1d(x, 3, 2), 2 * 8 * 127, (2, 8, 256)),
        (lambda x: torch.max_pool2d(x, 3, 2, 1), 4 * 8 * 8 * 8, SHAPE),
        (lambda x: torch.max_pool3d(x, 2), 2 * 8 * 4 * 4 * 4, (2, 8, 8, 8, 8)),
        (lambda x: F.max_pool3d(x, 2), 2 * 8 * 4 * 4 * 4, (2, 8, 8, 8, 8)),
        (lambda x: F.max_pool2d(x, 2), 8 * 8 * 64, (8, 16, 128)),
    ],
)
def test_max_pooling_keeps_a_byte_for_each_window(function, pooled, shape):
    check(function, pooled, shape=shape)


def test_max_pooling_that_no_byte_tells_keeps_its_indices():
    check(lambda x: F.max_pool2d(x, (17, 16), padding=(8, 8)), None, shape=(2, 8, 32, 32))
    wider_than_the_image = lambda x: F.max_pool2d(x, 5, 1, 2)  # noqa: E731
    check(wider_than_the_image, None, shape=(64, 8, 3, 3))
    check(lambda x: F.max_pool2d(x, 2, return_indices=True)[0], None)
    check(lambda x: torch.max_pool1d_with_indices(x, 2)[0], None, shape=(2, 8, 256))
    check(lambda x: torch._C._nn.max_pool2d_with_indices(x, 2)[0], None)
    check(lambda x: torch._C._nn.max_pool3d_with_indices(x, 2)[0], None, shape=(2, 8, 8, 8, 8))


@pytest.mark.parametrize("function", [F.silu, F.gelu, F.hardswish, F.mish, nn.GELU("tanh")])
def test_the_result_of_an_activation_is_computed_again_for_whoever_needs_it(function):
    check(lambda x, w: F.conv2d(function(x), w), BYTES, trained(4, 8, 3, 3))
    check(lambda x, w: F.linear(function(x).flatten(2), w), BYTES, trained(4, 256))
    check(lambda x, w: function(x).view(4, 8, 256) @ w, BYTES, trained(256, 4))
    check(lambda x, w: function(x)[:, 2:6, ::2] * w, BYTES, trained(4, 8, 16))


def test_the_result_of_layer_norm_is_computed_again():
    def function(x, w, b, weight):
        return F.linear(F.layer_norm(x, (64,), w, b), weight)

    statistics = 2 * 64 * 4
    given = trained(64), trained(64), trained(4, 64)
    check(function, 64 * 64 * 4 + statistics, *given, shape=(64, 64))
    parameters = frozen(64), frozen(64), trained(4, 64)
    check(function, 64 * 64 * 4 + statistics, *parameters, shape=(64, 64))
    check(lambda x, w: F.linear(F.layer_norm(x, (64,))[:, 3], w), None, trained(4, 64),
          shape=(16, 16, 64))  # fmt: skip


def test_what_is_moved_about_after_it_is_computed_again_too():
    def windows(x, weight):
        x = F.layer_norm(x, (64,)).view(2, 8, 8, 64)
        x = torch.roll(F.pad(x, (0, 0, 0, 0, 0, 0)), (1, 1), (1, 2))
        x = x.view(2, 2, 4, 2, 4, 64).permute(0, 1, 3, 2, 4, 5).reshape(8, 16, 64)
        return F.linear(x, weight)

    statistics = 2 * 2 * 64 * 4
    check(windows, 2 * 64 * 64 * 4 + statistics, trained(4, 64), shape=(2, 64, 64))


@pytest.mark.parametrize("product", [torch.mul, torch.multiply, torch.Tensor.multiply])
def test_squeeze_and_excitation(product):
    def function(x, w, gate):
        x = F.silu(x)
        scale = F.conv2d(x.mean((2, 3), keepdim=True), gate).sigmoid()
        return F.conv2d(product(x, scale), w)

    squeezed = 2 * 4 * 8 * 4  # the mean, and the sigmoid of what comes of it
    check(function, BYTES + squeezed, trained(4, 8, 3, 3), trained(8, 8, 1, 1))


def test_what_is_kept_anyway_gets_no_bits_beside_it():
    check(lambda x, w: F.conv2d(F.relu(x), w), BYTES, trained(8, 8, 3, 3))
    check(lambda x, w: F.linear(F.relu(x).flatten(1), w), BYTES, trained(4, 2048))
    check(lambda x: F.relu(x).square(), BYTES)
    check(lambda x: F.layer_norm(F.relu(x), (16, 16)), BYTES + 2 * 4 * 8 * 4)
    check(lambda x: F.silu(F.relu(x)), BYTES)
    check(lambda x: F.relu6(F.relu(x)).exp(), None)


def test_what_the_user_holds_gets_no_bits_beside_it():
    class Features(nn.Module):
        def forward(self, x):
            first = F.relu(x * 1)
            return first, F.relu(first + 1), first.detach()

    model, x = lean(Features()), torch.randn(SHAPE, requires_grad=True)
    tracker = StorageTracker("cpu")
    tracker.add([x])
    with tracker:
        outputs = model(x)
    assert tracker.current_bytes == 3 * BYTES
    del outputs


def test_a_change_in_place_is_noticed_as_in_stock():
    def spoilt(function):
        def run(x):
            y = function(x)
            z = y * 1
            y.add_(1)
            return z

        return run

    for model in (Around(spoilt(F.relu)), lean(Around(spoilt(F.relu)))):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradients(model, torch.randn(SHAPE))
    for function in (F.relu6, F.leaky_relu, F.hardsigmoid, F.silu):  # these keep their input
        check(spoilt(function), None)

    def input_spoilt(x):
        y = x * 1
        z = F.linear(F.gelu(y).flatten(1), torch.ones(3, 2048, requires_grad=True))
        y.add_(1)
        return z

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(lean(Around(input_spoilt)), torch.randn(SHAPE))


def test_the_graph_is_freed_as_backward_goes_and_may_be_retained():
    model, x = lean(Around(F.relu)), torch.randn(SHAPE)
    out = model(x).sum()
    first = torch.autograd.grad(out, model.shift, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(out, model.shift)[0])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        out.backward()

    tracker = StorageTracker("cpu")
    with tracker:
        out = model(x).sum()
        before = tracker.current_bytes
        out.backward()
        model.zero_grad()
        assert before - tracker.current_bytes >= MAP // 8


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (F.relu, []),
        (F.leaky_relu, []),
        (F.silu, []),
        (F.gelu, []),
        (lambda x: F.hardswish(x * 3), []),
        (lambda x, w: F.conv2d(x, w), [frozen(4, 8, 3, 3)]),
        (lambda x, w: F.conv2d(F.silu(x), w), [trained(4, 8, 3, 3)]),
        (lambda x, w, b: F.batch_norm(x, mean, variance, w, b), [frozen(8), trained(8)]),
        (lambda x: F.max_pool2d(x, 2), []),
        (lambda x: F.avg_pool2d(x, 2), []),
        (lambda x: F.layer_norm(x, (16,)), []),
    ],
)
def test_double_backward(function, parameters):
    def second(model):
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2), requires_grad=True)
        (first,) = torch.autograd.grad(model(x).pow(3).sum(), x, create_graph=True)
        first.square().sum().backward()
        return [x.grad, *(p.grad for p in model.parameters())]

    stock = copy.deepcopy(Around(function, *parameters))
    ours = second(lean(copy.deepcopy(stock)))
    for a, b in zip(ours, second(stock), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_somebody_elses_hooks_are_left_alone():
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor

    for model in (Around(F.relu), lean(Around(F.relu))):
        packed.clear()
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            gradients(model, torch.randn(SHAPE))
        assert packed == [torch.Size(SHAPE)]


@pytest.mark.parametrize("bounds", [(0.0, float("inf")), (float("-inf"), 6.0), (-0.7, 0.7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_hardtanh_of_bounds_that_are_infinite_or_rounded(bounds, dtype):
    check(lambda x: F.hardtanh(x, *bounds), None, dtype=dtype)
    check(lambda x: F.hardtanh(x * 1, *bounds, inplace=True), None, dtype=dtype)
    rounded = torch.tensor([*bounds, 0.1]).to(dtype).repeat(4096)
    check(lambda x: F.hardtanh(x, *bounds), None, x=rounded, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dilated_convolutions_on_kernels_that_take_image_by_image(dtype):
    check(lambda x, w: F.conv2d(x, w, dilation=2), None, frozen(8, 8, 3, 3), shape=(1, 8, 17, 17),
          dtype=dtype)  # fmt: skip
    last = torch.randn(1, 13, 13, 13, 8).permute(0, 4, 1, 2, 3)
    for dilation in (1, 2, (1, 1, 2)):
        check(lambda x, w, d=dilation: F.conv3d(x * 1, w, dilation=d), None,
              frozen(8, 8, 2, 2, 2), x=last, dtype=dtype)  # fmt: skip
        check(lambda x, w, d=dilation: F.conv_transpose3d(x * 1, w, dilation=d), None,
              frozen(8, 8, 2, 2, 2), x=last, dtype=dtype)  # fmt: skip
    check(lambda x, w: F.conv2d(x, w), None, frozen(8, 8, 3, 3), shape=(8, 32, 32), dtype=dtype)


def test_chains_of_cheap_functions_do_not_grow():
    gate = trained(8, 16, 16)

    def products(x, g, w):
        for _ in range(300):
            x = x * g.sigmoid().add(0.5).clamp(0.9, 1.1)
        return F.conv2d(x, w)

    def doubling(x, w):
        for _ in range(40):
            x = x * F.silu(x).sigmoid()
        return F.conv2d(x, w)

    def gelus(x, w):
        for _ in range(300):
            x = F.gelu(x + 1)
        return F.conv2d(x, w)

    check(products, None, gate, trained(4, 8, 3, 3))
    check(doubling, None, trained(4, 8, 3, 3))
    check(gelus, None, trained(4, 8, 3, 3))


def test_complex_views_of_what_is_computed_again():
    numbers = nn.Parameter(torch.randn(4, 8, 16, 8, dtype=torch.complex64))

    def rotary(x, w):
        pairs = torch.view_as_complex(F.silu(x).view(4, 8, 16, 8, 2))
        return torch.view_as_real(pairs * torch.view_as_complex(w))

    def conjugate(x, w):
        product = torch.view_as_complex(F.silu(x).view(4, 8, 16, 8, 2)) * torch.view_as_complex(w)
        return torch.view_as_real(product.conj() * product.real)

    for function in (rotary, conjugate):
        check(function, None, nn.Parameter(torch.view_as_real(numbers.detach())))


def test_values_changed_behind_autograds_back_are_those_that_count():
    def through_data(x, w):
        y = F.silu(x)
        y.data.mul_(2)
        return F.conv2d(y, w)

    def replaced(x, w):
        y = F.silu(x)
        y.data = torch.round(y.data * 8) / 8
        return F.conv2d(y, w)

    for function in (through_data, replaced):
        check(function, None, trained(4, 8, 3, 3))


def test_where_no_gradient_comes_none_goes():
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return None

    for function in (F.relu, lambda x: F.batch_norm(x, mean, variance)):
        check(lambda x, f=function: Stop.apply(f(x)) + 0 * x, None)


def test_sparse_and_nested_tensors_pass_through():
    def sparse(x):
        return (x.to_sparse() * x.to_sparse()).to_dense()

    x = torch.randn(64, 64)
    for a, b in zip(gradients(lean(Around(sparse)), x), gradients(Around(sparse), x), strict=True):
        assert torch.equal(a, b)

    def nested(x):
        together = torch.nested.as_nested_tensor(list(x.unbind()))
        return torch.nested.to_padded_tensor(F.relu(together) * 2, 0.0)

    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that it is a prototype
        x = torch.randn(SHAPE)
        found = gradients(lean(Around(nested)), x), gradients(Around(nested), x)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
