"""Trainers on tiny models, and updates whose random draw is given."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_models import CLASSES, tiny_model
from torch import nn

from sfd_sweep.config import Resources, Settings
from sfd_sweep.method.batch import FixedOverride, ForgettingTask, UpdateBatch
from sfd_sweep.method.trainer import DEFAULT_RESOURCES, Trainer
from sfd_sweep.models.score_model import ScoreModel

FORGET, OVERRIDE = 0, 1
FORGET_0 = ForgettingTask(retained=(1, 2), forgotten=(FORGET,), override=FixedOverride({FORGET: OVERRIDE}))


def settings(**changes: Any) -> Settings:
    small = {"generator_lr": 1e-3, "batch_size": 6, "forget_batch_size": 4, "gradient_clip": 1e9, "ema_decay": 0.9}
    return Settings(**{**small, **changes})


def trainer(
    teacher: ScoreModel | None = None,
    start: ScoreModel | None = None,
    *,
    task: ForgettingTask = FORGET_0,
    seed: int = 0,
    resources: Resources = DEFAULT_RESOURCES,
    **changes: Any,
) -> Trainer:
    teacher = teacher or tiny_model()
    return Trainer(teacher, start or teacher, task, settings(**changes), seed=seed, resources=resources)


class Broken(nn.Module):
    """A network that puts out NaN for one condition."""

    def __init__(self, network, condition):
        super().__init__()
        self.network, self.condition, self.config = network, condition, network.config

    def forward(self, x_t, t, class_labels):
        output = self.network(x_t, t, class_labels=class_labels)
        factor = torch.where(class_labels == self.condition, torch.nan, 1.0).view(-1, 1, 1, 1)
        return type(output)(sample=output.sample * factor)


def broken_for(condition, **options):
    model = tiny_model(**options)
    model.network = Broken(model.network, condition)
    return model


def draw(c: Sequence[int], *, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 7) -> UpdateBatch:
    generator = torch.Generator().manual_seed(seed)
    n, conditions = len(c), torch.tensor(c)
    return UpdateBatch(
        c=conditions,
        forgotten=conditions == FORGET,
        dropped=torch.zeros(n, dtype=torch.bool),
        alternative=torch.full((n,), CLASSES - 1),
        z=torch.randn(n, *shape, generator=generator),
        t=torch.randint(38, 712, (n,), generator=generator),
        epsilon=torch.randn(n, *shape, generator=generator),
    )


def give(monkeypatch: pytest.MonkeyPatch, *draws: UpdateBatch) -> None:
    """Let the coming updates draw these, in turn."""
    coming = iter(draws)
    monkeypatch.setattr("sfd_sweep.method.trainer.draw_update_batch", lambda task, **sizes: next(coming))


def gradients(model: ScoreModel) -> torch.Tensor:
    """All gradients of a model in a row."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def gradients_of(loss: torch.Tensor, model: ScoreModel) -> torch.Tensor:
    parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def weights(model: ScoreModel) -> torch.Tensor:
    """All weights of a model in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
