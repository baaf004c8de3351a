"""Score models small enough to be trained in a test, and others simple enough to be solved by hand."""

from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin, UNet2DModel
from torch import nn

from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.loading import save_score_model
from sfd_sweep.models.score_model import ScoreModel

CLASSES = 3
NULL = CLASSES
NAMES = ("ant", "bee", "cow")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
FLOW = "flow"
"""In place of a prediction type: the velocity of flow matching."""


def tiny_model(
    prediction_type: str = "v_prediction",
    *,
    seed: int = 0,
    null_label: bool = True,
    attention: bool = False,
    dropout: float = 0.0,
) -> ScoreModel:
    """A random U-Net on 4×4 images of three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet2DModel(
            sample_size=4,
            in_channels=1,
            out_channels=1,
            block_out_channels=[8, 8],
            layers_per_block=1,
            down_block_types=["DownBlock2D"] * 2,
            up_block_types=["UpBlock2D"] * 2,
            norm_num_groups=4,
            add_attention=attention,
            attention_head_dim=4,
            dropout=dropout,
            num_class_embeds=CLASSES + null_label,
        )
    return ScoreModel(network, scheduler(prediction_type), ClassLabels(NAMES, has_null=null_label))


def scheduler(prediction_type: str) -> SchedulerMixin:
    if prediction_type == FLOW:
        return FlowMatchEulerDiscreteScheduler(shift=3.0)
    return DDPMScheduler(prediction_type=prediction_type, clip_sample=False)


def save_teacher(folder: Path, model: ScoreModel) -> Path:
    save_score_model(model, folder)
    return folder


class LinearNetwork(nn.Module):
    """x̂_0 = gain_c · x_t + shift_c, and a note of every call's steps and conditions."""

    def __init__(self, gains: list[float], shifts: list[float]) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=1, sample_size=2)
        self.gains = nn.Parameter(torch.tensor(gains))
        self.shifts = nn.Parameter(torch.tensor(shifts))
        self.calls: list[tuple[list[int], list[int]]] = []

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor) -> SimpleNamespace:
        self.calls.append((t.tolist(), class_labels.tolist()))
        shape = (-1, 1, 1, 1)
        return SimpleNamespace(
            sample=self.gains[class_labels].view(shape) * x_t + self.shifts[class_labels].view(shape)
        )


def linear_model(gains: list[float], shifts: list[float], *, null_label: bool = True) -> ScoreModel:
    """A score model that predicts x_0 linearly, one gain and shift for each class and one for the null label."""
    return ScoreModel(LinearNetwork(gains, shifts), scheduler("sample"), ClassLabels(NAMES, has_null=null_label))
