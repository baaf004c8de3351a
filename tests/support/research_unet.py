"""The research code's U-Net, computed from its weights alone, and random weights of it.

It follows the layout's description, not the product: names, order and shapes of its own.
"""

from dataclasses import dataclass
from math import log, prod, sqrt

import torch
from torch import Tensor
from torch.nn import functional

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """A configuration, in the research code's terms."""

    ch: int = 32
    ch_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attention_levels: tuple[int, ...] = (1,)
    image_channels: int = 1
    classes: int = 3

    def shapes(self) -> dict[str, Shape]:
        """Every weight's shape."""
        widths = [self.ch * factor for factor in self.ch_mult]
        shapes = {
            "classes_emb.weight": (self.classes, self.ch),
            "null_classes_emb": (self.ch,),
            **convolution("conv_in", self.image_channels, self.ch, 3),
            **norm("norm_out", widths[0]),
            **convolution("conv_out", widths[0], self.image_channels, 3),
        }
        for kind in ("temb", "cemb"):
            shapes |= linear(f"{kind}.dense.0", self.ch, 4 * self.ch) | linear(
                f"{kind}.dense.1", 4 * self.ch, 4 * self.ch
            )
        carried = [self.ch]
        width = self.ch
        for level, wide in enumerate(widths):
            for block in range(self.num_res_blocks):
                shapes |= self.residual(f"down.{level}.block.{block}", width, wide)
                shapes |= attention(f"down.{level}.attn.{block}", wide) if level in self.attention_levels else {}
                width = wide
                carried.append(width)
            if level < len(widths) - 1:
                shapes |= convolution(f"down.{level}.downsample.conv", width, width, 3)
                carried.append(width)
        shapes |= self.residual("mid.block_1", width, width) | attention("mid.attn_1", width)
        shapes |= self.residual("mid.block_2", width, width)
        for level, wide in reversed(list(enumerate(widths))):
            for block in range(self.num_res_blocks + 1):
                shapes |= self.residual(f"up.{level}.block.{block}", width + carried.pop(), wide)
                shapes |= attention(f"up.{level}.attn.{block}", wide) if level in self.attention_levels else {}
                width = wide
            if level > 0:
                shapes |= convolution(f"up.{level}.upsample.conv", width, width, 3)
        return shapes

    def residual(self, name: str, into: int, out: int) -> dict[str, Shape]:
        return {
            **norm(f"{name}.norm1", into),
            **convolution(f"{name}.conv1", into, out, 3),
            **linear(f"{name}.temb_cemb_proj", 8 * self.ch, out),
            **norm(f"{name}.norm2", out),
            **convolution(f"{name}.conv2", out, out, 3),
            **(convolution(f"{name}.nin_shortcut", into, out, 1) if into != out else {}),
        }


CIFAR = Sizes(ch_mult=(1, 2, 2, 2), num_res_blocks=2, image_channels=3, classes=10)
STL = Sizes(ch_mult=(1, 2, 2, 2, 4), num_res_blocks=2, attention_levels=(2,), image_channels=3, classes=2)


def convolution(name: str, into: int, out: int, edge: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, into, edge, edge), f"{name}.bias": (out,)}


def linear(name: str, into: int, out: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention(name: str, width: int) -> dict[str, Shape]:
    shapes = norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= convolution(f"{name}.{part}", width, width, 1)
    return shapes


def random_weights(sizes: Sizes = Sizes(), seed: int = 0) -> dict[str, Tensor]:
    """Weights all of which matter: none is zero, no norm is the identity, and the images' part is so faint at first
    that even the norms' ε shows.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in sizes.shapes().items():
        noise = torch.randn(shape, generator=generator)
        if "classes" in name:
            weights[name] = noise
        elif len(shape) == 1:
            weights[name] = 1 + 0.3 * noise if name.endswith("weight") else 0.1 * noise
        else:
            weights[name] = noise / sqrt(prod(shape[1:]))
    return weights | {name: 0.01 * weights[name] for name in ("conv_in.weight", "conv_in.bias")}


class ResearchUNet:
    """ε̂(x, t, c) of a state dict, in double precision; c is None for no class."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = {name: tensor.double() for name, tensor in weights.items()}

    def __call__(self, x: Tensor, t: int, c: int | None) -> Tensor:
        label = self.weights["null_classes_emb"] if c is None else self.weights["classes_emb.weight"][c]
        embedding = torch.cat([self.mlp("temb", waves(t, len(label))), self.mlp("cemb", label)])
        h = self.convolved("conv_in", x.double())
        carried = [h]
        levels = range(1 + max(int(name.split(".")[1]) for name in self.weights if name.startswith("down.")))
        for level in levels:
            for block in self.blocks(f"down.{level}.block"):
                h = self.attended(
                    f"down.{level}.attn.{block}", self.residual(f"down.{level}.block.{block}", h, embedding)
                )
                carried.append(h)
            if level != levels[-1]:
                h = self.convolved(
                    f"down.{level}.downsample.conv", functional.pad(h, (0, 1, 0, 1)), stride=2, padding=0
                )
                carried.append(h)
        h = self.attended("mid.attn_1", self.residual("mid.block_1", h, embedding))
        h = self.residual("mid.block_2", h, embedding)
        for level in reversed(levels):
            for block in self.blocks(f"up.{level}.block"):
                h = self.residual(f"up.{level}.block.{block}", torch.cat([h, carried.pop()], dim=1), embedding)
                h = self.attended(f"up.{level}.attn.{block}", h)
            if level > 0:
                h = self.convolved(f"up.{level}.upsample.conv", h.repeat_interleave(2, -1).repeat_interleave(2, -2))
        assert not carried
        return self.convolved("conv_out", functional.silu(self.normed("norm_out", h)))

    def blocks(self, name: str) -> list[int]:
        return sorted({int(found.split(".")[3]) for found in self.weights if found.startswith(f"{name}.")})

    def both(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def convolved(self, name: str, x: Tensor, stride: int = 1, padding: int | str = "same") -> Tensor:
        return functional.conv2d(x, *self.both(name), stride=stride, padding=padding)

    def normed(self, name: str, x: Tensor) -> Tensor:
        return functional.group_norm(x, 32, *self.both(name), eps=1e-6)

    def mlp(self, name: str, x: Tensor) -> Tensor:
        hidden = functional.silu(functional.linear(x, *self.both(f"{name}.dense.0")))
        return functional.linear(hidden, *self.both(f"{name}.dense.1"))

    def residual(self, name: str, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.convolved(f"{name}.conv1", functional.silu(self.normed(f"{name}.norm1", x)))
        h = h + functional.linear(functional.silu(embedding), *self.both(f"{name}.temb_cemb_proj"))[:, None, None]
        h = self.convolved(f"{name}.conv2", functional.silu(self.normed(f"{name}.norm2", h)))
        return h + (self.convolved(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.weights else x)

    def attended(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.q.weight" not in self.weights:
            return x
        normed = self.normed(f"{name}.norm", x)
        q, k, v = (self.convolved(f"{name}.{part}", normed).flatten(2) for part in "qkv")
        shares = torch.einsum("nci,ncj->nij", q, k).div(sqrt(q.shape[1])).softmax(dim=-1)
        mixed = torch.einsum("nij,ncj->nci", shares, v).view_as(x)
        return x + self.convolved(f"{name}.proj_out", mixed)


def waves(t: int, width: int) -> Tensor:
    """sin(t·f) and then cos(t·f) for f from 1 down to 1/10,000."""
    half = width // 2
    angles = t * torch.exp(-log(10_000) * torch.arange(half, dtype=torch.float64) / (half - 1))
    return torch.cat([angles.sin(), angles.cos()])
