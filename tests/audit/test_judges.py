"""Judges: who decides whether an image shows what is forgotten, and which judges cannot."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.audit.judges import ClassifierJudge, Discernment, SupportVectorJudge, check_discernment
from sfd_sweep.config import Audit
from sfd_sweep.datasets.images import LabeledImages, quantize
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.reference_images import RealImages

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def images(evaluator: Evaluator) -> ConditionImages:
    return ConditionImages.of(evaluator.reference, range(10), 100)


@pytest.fixture(scope="module")
def judge(images: ConditionImages) -> SupportVectorJudge:
    return SupportVectorJudge.fitted(images, DIGITS, {"0"})[0]


def test_a_support_vector_machine_knows_digits_that_it_has_not_seen(images):
    _, discernment = SupportVectorJudge.fitted(images, DIGITS, {"0"})
    assert discernment.recognized > 0.95
    assert discernment.false_alarms < 0.02


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.6])
def test_it_decides_as_scikit_learn_and_distances_do_on_rounded_pixels(images, evaluator, noise):
    fitted = SupportVectorJudge(images, DIGITS, {"0"})
    pixels, is_zero = images.images.flatten(1).numpy().astype(float), images.conditions.numpy() == 0
    reference = SVC(C=10, gamma="scale").fit(pixels, images.conditions.numpy())
    between = cdist(pixels[is_zero], pixels[is_zero])
    np.fill_diagonal(between, np.inf)
    noisy = images.images + noise * torch.randn(images.images.shape, generator=torch.Generator().manual_seed(0))
    rows = quantize(noisy, evaluator.reference.levels).flatten(1).numpy().astype(float)
    near = cdist(rows, pixels[is_zero]).min(1) <= np.quantile(between.min(1), 0.99)
    called = reference.predict(rows) == 0
    np.testing.assert_array_equal(fitted.shows_forgotten(noisy).numpy(), called & near)


def test_what_is_no_image_shows_nothing(images, judge):
    """The machine alone calls most of them forgotten."""
    zeros = images.images[images.conditions == 0]
    noise = torch.randn(zeros.shape, generator=torch.Generator().manual_seed(0))
    ruined = (zeros + 0.6 * noise).clamp(-1, 1)
    machine = SVC(C=10, gamma="scale").fit(images.images.flatten(1).numpy(), images.conditions.numpy())
    assert (machine.predict(ruined.flatten(1).numpy()) == 0).mean() > 0.5
    assert judge.shows_forgotten(zeros).double().mean() > 0.95
    assert judge.shows_forgotten(ruined).double().mean() < 0.1


def test_equal_images_make_equal_judges(images, judge):
    assert SupportVectorJudge.fitted(images, DIGITS, {"0"})[0].content_hash() == judge.content_hash()
    assert SupportVectorJudge.fitted(images, DIGITS, {"1"})[0].content_hash() != judge.content_hash()


def test_several_forgotten_subjects_count_together(images):
    judge, discernment = SupportVectorJudge.fitted(images, DIGITS, {"0", "7"})
    assert discernment.recognized > 0.95
    shown = judge.shows_forgotten(images.images)
    assert shown[torch.isin(images.conditions, torch.tensor([0, 7]))].float().mean() > 0.95


def test_too_few_images_of_what_is_forgotten_are_refused(images):
    rows = torch.cat([torch.nonzero(images.conditions == 0)[:9, 0], torch.nonzero(images.conditions > 0)[:, 0]])
    with pytest.raises(
        UserError, match="9 reference images show what is forgotten, and a support vector machine needs 10"
    ):
        SupportVectorJudge.fitted(images.take(rows), DIGITS, {"0"})


def test_a_classifier_judges_by_its_likeliest_class(images):
    classifier = load_classifier("builtin:digits")
    judge = ClassifierJudge(classifier, (0, 3), images.levels, torch.device("cpu"), batch_size=64)
    with torch.no_grad():
        likeliest = classifier(quantize(images.images, images.levels)).argmax(1)
    assert torch.equal(judge.shows_forgotten(images.images), (likeliest == 0) | (likeliest == 3))


@pytest.mark.parametrize(("recognized", "false_alarms"), [(0.1, 0.0), (1.0, 0.6), (0.0, 1.0)])
def test_a_blind_judge_is_refused(judge, recognized, false_alarms):
    with pytest.raises(UserError, match=r"audit\.judge: .* cannot decide; name another classifier"):
        check_discernment(judge, Discernment(recognized, false_alarms))


def test_a_judge_that_finds_nothing_in_noise_is_refused(evaluator):
    """Reference images without anything to see."""
    noise = torch.Generator().manual_seed(0)
    made = torch.rand(400, 1, 8, 8, generator=noise)
    noisy = RealImages(LabeledImages(made.mul(16).round().byte(), torch.arange(400) % 10, DIGITS, 17))
    blind = Evaluator(evaluator.classifier, noisy, evaluator.conditions, seed=0)
    with pytest.raises(UserError, match=r"audit\.judge: a support vector machine .* cannot decide"):
        AuditContext.build(blind, Audit(), start=None, override=(1,))


def test_the_classifier_that_attacks_optimize_against_is_no_judge(evaluator):
    with pytest.raises(UserError, match=r"audit\.judge: builtin:digits is also the classifier that attacks optimize"):
        AuditContext.build(evaluator, Audit(judge="builtin:digits"), start=None, override=(1,))
