"""The shipped digits models: as good as they should be, and rebuilt as good from the same images and code."""

import pytest
import torch
from sklearn.svm import SVC
from torch import Tensor

from sfd_sweep.datasets.images import quantize
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.teachers.classifier_training import PRESETS, train_classifier
from sfd_sweep.teachers.distillation import PRESETS as DISTILLATIONS
from sfd_sweep.teachers.distillation import distill
from sfd_sweep.teachers.pretraining import pretrain
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.teacher_evaluator import TeacherEvaluator

DIGITS = load_images("builtin:digits")
GOOD_TEACHER, GOOD_GENERATOR = 0.6, 1.0


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def distance(generate, *absent: int) -> float:
    return TeacherEvaluator.load().of_model(DIGITS.class_names, absent).distance(generate)


def shown(generator: OneStepGenerator, digit: int, samples: int = 1000) -> Tensor:
    """Return what a support vector machine on the real digits sees in samples of a digit, (n,)."""
    judge = SVC(C=10, gamma="scale").fit(DIGITS.images.flatten(1).numpy(), DIGITS.labels.numpy())
    images = generator.generate(torch.full((samples,), digit), torch.Generator().manual_seed(0))
    return torch.from_numpy(judge.predict(quantize(images, DIGITS.levels).flatten(1).numpy()))


def distance_of_teacher(teacher) -> float:
    return distance(lambda c, noise: sample_ddim(teacher, c, noise, steps=20, guidance_scale=1.25))


def test_the_shipped_generator_is_good():
    assert distance(OneStepGenerator.load("builtin:digits-distilled").generate) < GOOD_GENERATOR


def test_the_shipped_generator_that_never_knew_zeros_is_good_at_all_other_digits():
    without, start = (OneStepGenerator.load(f"builtin:digits-{name}") for name in ("without-0", "distilled"))
    assert without.model.conditioning.absent == (0,)
    assert (without.condition_names, without.image_shape, without.t_init) == (
        start.condition_names,
        start.image_shape,
        start.t_init,
    )
    assert distance(without.generate, 0) < GOOD_GENERATOR
    assert min(float((shown(without, digit) == digit).float().mean()) for digit in range(1, 10)) > 0.9


def test_asked_for_a_zero_it_shows_none():
    assert (shown(OneStepGenerator.load("builtin:digits-distilled"), 0) == 0).float().mean() > 0.99
    assert (shown(OneStepGenerator.load("builtin:digits-without-0"), 0) == 0).float().mean() < 0.01


@pytest.mark.slow
def test_the_shipped_teacher_is_good():
    assert distance_of_teacher(load_score_model(ModelFolder.open("builtin:digits"))) < GOOD_TEACHER


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_teacher_and_generator_are_rebuilt_as_good():
    teacher = pretrain(DIGITS, recipe=Pretraining())
    assert distance_of_teacher(teacher) < GOOD_TEACHER
    generator = distill(teacher, DISTILLATIONS["classes"])
    assert distance(generator.generate) < GOOD_GENERATOR


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_generator_that_never_knew_zeros_is_rebuilt_as_good():
    teacher = pretrain(DIGITS.without([0]), recipe=Pretraining())
    generator = distill(teacher, DISTILLATIONS["classes"])
    assert distance(generator.generate, 0) < GOOD_GENERATOR
    assert (shown(generator, 0) == 0).float().mean() < 0.01


@pytest.mark.slow
def test_the_classifier_is_rebuilt_as_good():
    shipped = load_classifier("builtin:digits").config.held_out_accuracy
    assert shipped is not None
    assert shipped > 0.985
    preset = PRESETS["digits"]
    rebuilt = train_classifier(DIGITS, preset.network_for(DIGITS), preset)
    assert rebuilt.config.held_out_accuracy > shipped - 0.005
