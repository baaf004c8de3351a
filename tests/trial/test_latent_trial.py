"""Trials of a latent teacher, judged by their images: a random one that calls its classes as the digits are called."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_latent_models import save_dit, tiny_vae
from trial_cases import digits_settings, digits_space

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import GENERATOR, step_folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

DIGITS = tuple("0123456789")


def space(teacher):
    return digits_space(f"task.teacher={teacher}", "task.start=teacher")


@pytest.fixture(name="context", scope="module")
def _context(tmp_path_factory):
    teacher = save_dit(tmp_path_factory.mktemp("models") / "teacher", DIGITS, vae=tiny_vae(channels=1))
    return TrialContext.build(resolve_sweep(space(teacher)), None)


def test_a_trial_is_advanced_saved_and_judged_by_its_images(context, tmp_path):
    folder, settings = Folder.open(tmp_path / "0000"), digits_settings(context.plan.space)
    trial = TrialRunner(context, settings, folder)
    trial.advance(2)
    report = trial.advance(4)
    assert all(math.isfinite(value) for value in report.metrics.values())
    kept = load_generator(folder, 4)
    again = context.evaluate(kept, settings.override, samples=60, forget_samples=40, final=False)
    assert again.metrics == pytest.approx(report.metrics)
    assert kept.sample([0, 5]).shape == (2, 1, 8, 8)
    saved = step_folder(folder, 4) / GENERATOR
    assert saved.names() == ["model_index.json", "pipeline.py", "scheduler", "transformer", "vae"]


def test_a_classifier_that_chooses_the_override_sees_images(context, tmp_path):
    settings = digits_settings(context.plan.space).model_copy(update={"override": "classifier"})
    free = replace(
        context,
        plan=replace(context.plan, overrides={"classifier": None}),
        override_classifier=load_classifier("builtin:digits"),
    )
    override = free.unlearning(settings).task.override
    x_psi = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    c = torch.zeros(3, dtype=torch.long)
    with torch.no_grad():
        logits = free.override_classifier(context.teacher.decoder(x_psi))
    logits[:, 0] = -torch.inf
    assert torch.equal(override(c, c, x_psi), logits.argmax(1))
    TrialRunner(free, settings, Folder.open(tmp_path / "0000")).advance(2)


def test_a_judge_of_images_of_another_size_is_refused(tmp_path):
    """The latents have as many values as a digit has pixels; what counts is the image."""
    teacher = save_dit(tmp_path / "teacher", DIGITS, vae=tiny_vae(channels=1, blocks=1))
    assert ModelFolder.open(str(teacher)).image_shape == (1, 4, 4)
    with pytest.raises(UserError, match="takes images of 8×8 pixels, not of 4×4"):
        TrialContext.build(resolve_sweep(space(teacher)), None)
