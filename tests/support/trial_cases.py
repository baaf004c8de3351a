"""Search spaces for tests: the shipped digits on tiny budgets, and teachers of one's own."""

from pathlib import Path

import torch

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.evaluation.classifiers.loading import load_classifier

DIGITS = """
name: tiny
task: {teacher: builtin:digits, start: builtin:digits-distilled, forget: [0]}
trial: {steps: 4, evaluate_every: 2}
parameters:
  generator_lr: {type: float, low: 1.0e-5, high: 1.0e-3, log: true}
  override: 1
  batch_size: 8
  forget_batch_size: 4
  fake_score_loss: velocity
  ema_decay: 0.9
budget: {trials: 2}
objectives:
  - {metric: fd_classifier, goal: minimize, reference_point: 10}
  - {metric: unlearning_accuracy, goal: maximize, reference_point: 0}
evaluation: {samples: 60, forget_samples: 40}
"""


def digits_space(*overrides: str) -> SearchSpace:
    return parse_search_space(DIGITS, "tiny.yaml", overrides)


def digits_settings(space: SearchSpace, **sampled: object) -> Settings:
    return space.parameters.settings({"generator_lr": 2e-4, **sampled})


def save_second_classifier(folder: Path) -> Path:
    """Write the shipped classifier with other weights nearby, which calls nearly all digits alike."""
    classifier = load_classifier("builtin:digits")
    generator = torch.Generator().manual_seed(0)
    for parameter in classifier.parameters():
        parameter.data.add_(0.01 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    classifier.save(folder)
    return folder
