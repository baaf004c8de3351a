"""The label-conditional U-Net of DDIM's descendants (Selective Amnesia, SalUn, SFD), as a `UNet2DModel`.

It is the U-Net of Ho et al. (DDPM, 2020) with a second embedding: step and class go through an MLP each, and a residual
block adds W·silu([temb, cemb]) + b. Such a pair is one vector of twice the width, so a `UNet2DModel` whose embedding is
that wide computes the same: its time MLP is padded with zeros, and so fills the first half alone, and its table of
classes has in the second half what the class MLP makes of each class, and in its last row of "no class".

Only further training differs: the rows of that table, and what was padded, are then weights of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count, takewhile

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor
from torch.nn.functional import linear, pad, silu

from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.teachers.research_checkpoint import NetworkWeights

NORM_GROUPS = 32
ATTENTION_RESOLUTION = 16  # pixels, in all published configurations
DROPOUT = 0.1
"""In all published configurations; a checkpoint does not state it, and a network that is only evaluated ignores it."""
UNUSED = {"logvar"}  # in the networks of one configuration, and read by none

RENAMED = (
    (r"^down_blocks\.(\d+)", r"down.\1"),
    (r"^mid_block\.resnets\.0", "mid.block_1"),
    (r"^mid_block\.resnets\.1", "mid.block_2"),
    (r"^mid_block\.attentions\.0", "mid.attn_1"),
    (r"^conv_norm_out", "norm_out"),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.(down|up)samplers\.0", r".\1sample"),
    (r"\.time_emb_proj\.", ".temb_cemb_proj."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
)
"""From diffusers' names to the research code's, applied in this order."""


def score_model(
    weights: NetworkWeights, image_size: int | None = None, class_names: Sequence[str] | None = None
) -> ScoreModel:
    """Return the network as a score model in float32: ε-prediction, on the schedule that the research code trains with.

    Args:
        weights: of a network of this layout.
        image_size: pixels along an image's edge; None: such that the attention is at 16×16.
        class_names: by index; None: their indices.

    Raises:
        UserError: the weights are another network's, or of another number of classes, or the image size is unknown or
            impossible.
    """
    levels = range(max(1, _count(weights, "down.{}.block.0.conv1.weight")))
    widths = tuple(_shape(weights, f"down.{level}.block.0.conv1.weight", 4)[0] for level in levels)
    if not all(width and width % NORM_GROUPS == 0 for width in widths):
        raise _refusal(weights, f"its widths {widths} are no multiples of {NORM_GROUPS}")
    attention = [f"down.{level}.attn.0.norm.weight" in weights.tensors for level in levels]
    classes = _shape(weights, "classes_emb.weight", 2)[0]
    names_of_classes = [str(label) for label in range(classes)] if class_names is None else class_names
    if len(names_of_classes) != classes:
        raise UserError(f"{weights.origin} has {classes} classes, but --class-names has {len(names_of_classes)}")
    size = _checked_size(weights, attention, image_size)
    network = _network(weights, widths, attention, classes=classes, size=size)

    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    names = {name: _research_name(name, len(widths)) for name in shapes if "_embedding." not in name}
    expected = {names[name]: _research_shape(name, shapes[name]) for name in names}
    _check(weights, expected | _embedding_shapes(widths[0], classes))
    state = {name: weights.tensors[names[name]].float().reshape(shapes[name]) for name in names}
    network.load_state_dict(state | _embedding(weights), assign=True)
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="epsilon",
        variance_type="fixed_large",
        clip_sample=False,  # a one-step generator's output is used as it is
    )
    return ScoreModel(network, scheduler, ClassLabels(names_of_classes))


def _checked_size(weights: NetworkWeights, attention: list[bool], size: int | None) -> int:
    if size is None:
        if sum(attention) != 1:
            raise UserError(
                f"{weights.origin}: its attention is not at one resolution, so the images' size is unknown; give --size"
            )
        size = ATTENTION_RESOLUTION << attention.index(True)
    factor = 2 ** (len(attention) - 1)
    if size % factor:
        raise UserError(f"{weights.origin}: the images' size must be a multiple of {factor}, not {size}; change --size")
    return size


def _network(
    weights: NetworkWeights, widths: tuple[int, ...], attention: list[bool], *, classes: int, size: int
) -> UNet2DModel:
    """Return the network without weights, on torch's meta device."""
    channels = _shape(weights, "conv_in.weight", 4)[1]
    with torch.device("meta"):
        return UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=list(widths),
            layers_per_block=_count(weights, "down.0.block.{}.conv1.weight"),
            down_block_types=["AttnDownBlock2D" if here else "DownBlock2D" for here in attention],
            up_block_types=["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)],
            attention_head_dim=None,  # one head, as wide as the block
            downsample_padding=0,  # diffusers then pads on the right and at the bottom
            norm_num_groups=NORM_GROUPS,
            norm_eps=1e-6,
            dropout=DROPOUT,
            flip_sin_to_cos=False,
            freq_shift=1,
            time_embedding_dim=8 * widths[0],
            num_class_embeds=classes + 1,
        )


def _embedding(weights: NetworkWeights) -> dict[str, Tensor]:
    """Return the time MLP in the first half of the embedding, and the class MLP's outputs in the second."""
    tensors = weights.tensors
    labels = torch.cat([tensors["classes_emb.weight"], tensors["null_classes_emb"].unsqueeze(0)])
    first, second = (
        (tensors[f"cemb.dense.{layer}.weight"].double(), tensors[f"cemb.dense.{layer}.bias"].double())
        for layer in range(2)
    )
    table = linear(silu(linear(labels.double(), *first)), *second).float()
    half = table.shape[1]
    return {
        "time_embedding.linear_1.weight": pad(tensors["temb.dense.0.weight"].float(), (0, 0, 0, half)),
        "time_embedding.linear_1.bias": pad(tensors["temb.dense.0.bias"].float(), (0, half)),
        "time_embedding.linear_2.weight": pad(tensors["temb.dense.1.weight"].float(), (0, half, 0, half)),
        "time_embedding.linear_2.bias": pad(tensors["temb.dense.1.bias"].float(), (0, half)),
        "class_embedding.weight": pad(table, (half, 0)),
    }


def _embedding_shapes(width: int, classes: int) -> dict[str, tuple[int, ...]]:
    half = 4 * width
    mlp = {"0.weight": (half, width), "0.bias": (half,), "1.weight": (half, half), "1.bias": (half,)}
    mlps = {f"{name}.dense.{entry}": shape for name in ("temb", "cemb") for entry, shape in mlp.items()}
    return {**mlps, "classes_emb.weight": (classes, width), "null_classes_emb": (width,)}


def _research_name(name: str, levels: int) -> str:
    name = re.sub(r"^up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _research_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the research code's shape of a weight of diffusers' name; its attention projects by 1×1 convolutions."""
    return (*shape, 1, 1) if re.search(r"\.to_(q|k|v|out\.0)\.weight$", name) else tuple(shape)


def _check(weights: NetworkWeights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        tensor = _found(weights, name)
        if tensor.shape != shape:
            raise _refusal(weights, f"{name} has the shape {tuple(tensor.shape)}, not {shape}")
        if not tensor.isfinite().all():
            raise UserError(f"{weights.origin}: {name} is not finite; give a checkpoint from before the divergence")
    unexpected = sorted(weights.tensors.keys() - shapes.keys() - UNUSED)
    if unexpected:
        raise _refusal(weights, f"{unexpected[0]} has no place in it")


def _found(weights: NetworkWeights, name: str) -> Tensor:
    if name not in weights.tensors:
        raise _refusal(weights, f"{name} is missing")
    return weights.tensors[name]


def _shape(weights: NetworkWeights, name: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(_found(weights, name).shape)
    if len(shape) != dimensions:
        raise _refusal(weights, f"{name} has the shape {shape}, not one of {dimensions} dimensions")
    return shape


def _count(weights: NetworkWeights, pattern: str) -> int:
    """Return how many of the names made from a pattern and 0, 1, 2, … there are."""
    return sum(1 for _ in takewhile(lambda index: pattern.format(index) in weights.tensors, count()))


def _refusal(weights: NetworkWeights, reason: str) -> UserError:
    return UserError(
        f"{weights.origin}: the {weights.network} is no network of the layout ddpm ({reason}); "
        "only the label-conditional U-Net of Selective Amnesia, SalUn and SFD is read"
    )
