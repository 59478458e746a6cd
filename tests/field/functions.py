"""Nets that are functions of coordinates, fields or other nets, and layers written as functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn
from torch.func import functional_call

from tests.field.blocks import Residual, Trunk, conv, mlp
from tests.field.records import Structure, images, noise, several


class Nerf(nn.Module):
    """yenchenlin/nerf-pytorch run_nerf_helpers.py: coordinates, a skip, two outputs."""

    def __init__(self):
        super().__init__()
        self.pts_linears = nn.ModuleList([nn.Linear(18, 16), nn.Linear(16, 16), nn.Linear(34, 16)])
        self.views_linears = nn.ModuleList([nn.Linear(16 + 3, 8)])
        self.alpha_linear, self.rgb_linear = nn.Linear(16, 1), nn.Linear(8, 3)

    def forward(self, points, views):
        x = start = torch.cat(
            [f(points * 2**k) for k in range(3) for f in (torch.sin, torch.cos)], -1
        )
        for at, layer in enumerate(self.pts_linears):
            x = F.relu(layer(torch.cat([start, x], -1) if at == 2 else x))
        color = torch.cat([x, views], -1)
        for layer in self.views_linears:
            color = F.relu(layer(color))
        return torch.cat([self.rgb_linear(color), self.alpha_linear(x)], -1)


class Siren(nn.Module):
    """vsitzmann/siren: sines as activations."""

    def __init__(self):
        super().__init__()
        self.net = nn.ModuleList([nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 16)])
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        for layer in self.net:
            x = torch.sin(3 * layer(x))
        return self.last(x)


class Fourier(nn.Module):
    """A layer with complex weights on the lowest frequencies."""

    def __init__(self, width):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(width, width, 4, 4, dtype=torch.cfloat) / width)
        self.skip = nn.Conv2d(width, width, 1)

    def forward(self, x):
        found = torch.fft.rfft2(x)
        mixed = torch.einsum("bixy,ioxy->boxy", found[..., :4, :4], self.weights)
        full = F.pad(mixed, (0, found.shape[-1] - 4, 0, found.shape[-2] - 4))
        return F.gelu(torch.fft.irfft2(full, s=x.shape[-2:]) + self.skip(x))


class FourierOperator(nn.Module):
    """neuraloperator/neuraloperator FNO2d: complex parameters in the space of frequencies."""

    def __init__(self):
        super().__init__()
        self.lifting = nn.Conv2d(3, 8, 1)
        self.fno_blocks = nn.ModuleList([Fourier(8) for _ in range(3)])
        self.projection = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        x = self.lifting(x)
        for block in self.fno_blocks:
            x = block(x)
        return self.projection(x)


class Hypernet(nn.Module):
    """g1910/HyperNetworks: one net makes the weights of another one."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8)
        self.z = nn.ParameterList([torch.randn(4) for _ in range(2)])
        self.hope = nn.Linear(4, 8 * 8 * 9)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        for z in self.z:
            x = F.relu(F.conv2d(x, self.hope(z).view(8, 8, 3, 3) / 8, stride=2, padding=1))
        return self.fc(x.mean((2, 3)))


class Functional(nn.Module):
    """MAML and ensembles: torch.func.functional_call with weights that are made on the way."""

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.fc = conv(3, 8, 2), conv(8, 12, 2), nn.Linear(12, 4)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        x = self.stem(x)
        weights = {name: p * self.scale for name, p in self.block.named_parameters()}
        x = functional_call(self.block, weights, (x,))
        return self.fc(x.mean((2, 3)))


class Implicit(nn.Module):
    """locuslab/deq: a fixed point is found without gradients, then one step is taken with them."""

    def __init__(self):
        super().__init__()
        self.stem, self.cell = conv(3, 8, 2), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm, self.fc = nn.GroupNorm(2, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(4):
                z = torch.tanh(self.norm(self.cell(z)) + x)
        z = torch.tanh(self.norm(self.cell(z)) + x)
        return self.fc(z.mean((2, 3)))


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Binary(nn.Module):
    """itayhubara/BinaryNet.pytorch: an autograd.Function of one's own with a straight gradient."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 8), (8, 12), (12, 16))]
        )
        self.norms, self.fc = (
            nn.ModuleList([nn.BatchNorm2d(c) for c in (8, 12, 16)]),
            nn.Linear(16, 4),
        )

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = _Sign.apply(norm(layer(x)))
        return self.fc(x.mean((2, 3)))


class Coupling(nn.Module):
    """A step of a flow: one half of the values scales and shifts the other."""

    def __init__(self):
        super().__init__()
        self.net = mlp(4, 16, 8)

    def forward(self, x):
        one, two = x.chunk(2, -1)
        scale, shift = self.net(one).chunk(2, -1)
        return torch.cat([two * scale.tanh().exp() + shift, one], -1)


class Flow(nn.Module):
    """chrischute/real-nvp: coupling layers in a row, without any head."""

    def __init__(self):
        super().__init__()
        self.flows = nn.ModuleList([Coupling() for _ in range(4)])

    def forward(self, x):
        for flow in self.flows:
            x = flow(x)
        return x


class DeepONet(nn.Module):
    """lululxvi/deeponet: a net of the function, a net of the place, and a product."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(mlp(8, 16, 16), nn.ReLU(), nn.Linear(16, 12))
        self.trunk = nn.Sequential(mlp(2, 16, 16), nn.ReLU(), nn.Linear(16, 12))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, function, places):
        return self.branch(function) @ self.trunk(places).T + self.bias


class FilmNet(nn.Module):
    """ethanjperez/film: a second input makes scales and shifts for the layers of the first."""

    def __init__(self):
        super().__init__()
        self.condition = nn.Linear(5, 8 + 8 + 12 + 12)
        self.stem, self.one, self.two = conv(3, 8), Residual(8, 8), Residual(8, 12, 2)
        self.fc = nn.Linear(12, 4)

    def forward(self, image, condition):
        a, b, c, d = self.condition(condition)[..., None, None].split((8, 8, 12, 12), 1)
        x = self.one(self.stem(image)) * (1 + a) + b
        return self.fc((self.two(x) * (1 + c) + d).mean((2, 3)))


class Diffusion(nn.Module):
    """lucidrains/denoising-diffusion-pytorch: the embedding of a time goes into each block."""

    def __init__(self):
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(1, 16), nn.GELU(), nn.Linear(16, 16))
        self.init_conv = nn.Conv2d(3, 8, 3, 1, 1)
        self.downs, self.ups = nn.ModuleList([conv(8, 12, 2)]), nn.ModuleList([conv(12 + 8, 8)])
        self.times = nn.ModuleList([nn.Linear(16, 12), nn.Linear(16, 8)])
        self.final_conv = nn.Conv2d(8, 3, 1)

    def forward(self, x, time):
        t = self.time_mlp(time)
        x = self.init_conv(x)
        y = self.downs[0](x) + self.times[0](t)[..., None, None]
        y = torch.cat([F.interpolate(y, scale_factor=2), x], 1)
        return self.final_conv(self.ups[0](y) + self.times[1](t)[..., None, None])


class Gan(nn.Module):
    """Training scripts of GANs that keep generator and discriminator in one module."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 48), nn.Unflatten(1, (3, 4, 4)), conv(3, 3))
        self.discriminator = Trunk()
        self.discriminator.fc = nn.Linear(16, 1)

    def forward(self, z):
        return self.discriminator(F.interpolate(self.generator(z), scale_factor=4))


STRUCTURES = (
    Structure(
        Nerf,
        several(noise(6, 3), noise(6, 3)),
        4,
        ("rgb_linear", "alpha_linear"),
        lacks="attention norm statistics",
        open=("views_linears",),
    ),
    Structure(Siren, noise(6, 2), 4, ("last",), lacks="attention norm statistics"),
    Structure(FourierOperator, images(), 4, ("projection",), lacks="attention norm statistics"),
    Structure(Hypernet, images(), 3, ("fc",), lacks="attention"),
    Structure(Functional, images(), 3, ("fc",), lacks="attention"),
    Structure(Implicit, images(), 3, ("fc",), lacks="attention", open=("norm",)),
    Structure(Binary, images(), 4, ("fc",), lacks="attention"),
    Structure(Flow, noise(4, 8), 3, (), lacks="attention norm statistics", open=("flows.3",)),
    Structure(
        DeepONet,
        several(noise(2, 8), noise(6, 2)),
        3,
        ("branch.2", "trunk.2", "bias"),
        lacks="attention norm statistics",
    ),
    Structure(FilmNet, several(images(), noise(2, 5)), 4, ("fc",), lacks="attention"),
    Structure(Diffusion, several(images(), noise(2, 1)), 4, ("final_conv",), lacks="attention"),
    Structure(Gan, noise(2, 8), 4, ("discriminator.fc",), lacks="attention"),
)
