"""A concept's task on a tiny Stable Diffusion of gray images, which the classifier of the shipped digits takes.

Its weights are random, and so the concept is called by whatever digit the classifier mostly sees in what the teacher
makes.
"""

from pathlib import Path

import torch
from tiny_text_models import save_stable_diffusion

from sfd_sweep.config import SearchSpace
from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim

CONCEPT = """
name: tiny-concept
task:
  kind: concept
  teacher: "{folder}/teacher"
  forget: [ant]
  prompts:
    forget: ["{{concept}}", "an {{concept}} at work"]
    retain: ["cow", "a {{concept}}", "old {{concept}}"]
    held_out: ["red {{concept}}"]
    others: [bee, owl]
trial: {{steps: 4, evaluate_every: 2}}
parameters:
  generator_lr: {{type: float, low: 1.0e-5, high: 1.0e-3, log: true}}
  override: {{type: categorical, choices: [bee, wasp]}}
  batch_size: 8
  forget_batch_size: 4
  ema_decay: 0.5
budget: {{trials: 2}}
objectives:
  - {{metric: fd_classifier_teacher, goal: minimize, reference_point: 1000}}
  - {{metric: unlearning_accuracy, goal: maximize, reference_point: 0}}
evaluation:
  samples: 60
  forget_samples: 40
  final_samples: 80
  reference: teacher
  class_of: {{ant: {called}, bee: {other}}}
  teacher_samples: {{samples: 100, override_samples: 80, steps: 4}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
storage: "{folder}/runs"
"""


def save_tiny_teacher(folder: Path) -> Path:
    return save_stable_diffusion(folder / "teacher", channels=1)


def digit_seen(folder: Path) -> int:
    """What the classifier sees in most of the teacher's images."""
    model = load_score_model(ModelFolder.open(str(folder / "teacher")), prompts=["ant", "an ant at work"])
    images = sample_ddim(model, torch.arange(40) % 2, torch.Generator().manual_seed(0), steps=4)
    return int(load_classifier("builtin:digits")(images).argmax(1).mode().values)


def concept_space(folder: Path, *overrides: str, called: int | None = None) -> SearchSpace:
    """The task in a folder with a teacher."""
    called = digit_seen(folder) if called is None else called
    text = CONCEPT.format(folder=folder, called=called, other=(called + 1) % 10)
    return parse_search_space(text, "concept.yaml", overrides)
