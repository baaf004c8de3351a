"""Two forgotten classes in one trial: what is trained, and every figure by hand from the images that were judged."""

import io

import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance
from PIL import Image
from trial_cases import digits_settings, digits_space, save_second_classifier

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.method import trainer as training
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import GRID, step_folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

FORGET, RETAIN = [0, 1], [2, 3, 4, 5, 6, 7, 8, 9]
OVERRIDES = {"each its own": "[2, 3]", "one for both": "7", "random": "random", "classifier": "classifier"}
LEVELS = 17  # of scikit-learn's digits


@pytest.fixture(name="trained", scope="module", params=OVERRIDES)
def _trained(request, tmp_path_factory):
    """A trial of two steps: its context, folder, report, and the conditions that φ was shown in place of c_f."""
    second = save_second_classifier(tmp_path_factory.mktemp("second") / "classifier")
    space = digits_space(
        "task.forget=[0, 1]",
        f"task.override_classifier={second}",
        f"parameters.override={OVERRIDES[request.param]}",
        "trial.steps=2",
    )
    context = TrialContext.build(resolve_sweep(space), None)
    folder = Folder.open(tmp_path_factory.mktemp("trial"))
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        conditions = training.Trainer._teacher_conditions

        def noted(self, draw, x_psi):
            c_phi = conditions(self, draw, x_psi)
            shown.extend(zip(draw.c.tolist(), c_phi.tolist(), strict=True))
            return c_phi

        patch.setattr(training.Trainer, "_teacher_conditions", noted)
        report = TrialRunner(context, digits_settings(space), folder).advance(2)
    return request.param, context, folder, report, shown


def test_the_teacher_is_shown_what_replaces_each_forgotten_class(trained):
    override, _, _, _, shown = trained
    assert {c for c, _ in shown if c in FORGET} == set(FORGET)
    replaced = {c: {c_phi for of, c_phi in shown if of == c} for c in FORGET}
    match override:
        case "each its own":
            assert replaced == {0: {2}, 1: {3}}
        case "one for both":
            assert replaced == {0: {7}, 1: {7}}
        case _:
            assert replaced[0] | replaced[1] <= set(RETAIN)
    assert all(c == c_phi for c, c_phi in shown if c in RETAIN)


class Judged:
    """What the classifier says of images, in numpy."""

    def __init__(self, images):
        self.classifier = load_classifier("builtin:digits")
        rounded = ((images.clamp(-1, 1) + 1) / 2 * (LEVELS - 1)).round() / (LEVELS - 1) * 2 - 1
        with torch.no_grad():
            features = self.classifier.features(rounded)
            logits = self.classifier.logits_from_features(features).double().numpy()
        self.features = features.double().numpy()
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        self.probabilities = exponentials / exponentials.sum(1, keepdims=True)
        self.called = logits.argmax(1)


def distance(one, other):
    return frechet_distance(*(part for x in (one, other) for part in (x.mean(0), np.cov(x, rowvar=False))))


def test_every_figure_is_as_it_is_defined(trained):
    override, context, folder, report, _ = trained
    generator, asked = load_generator(folder, 2), []

    def generate(labels, stream):
        images = generator.generate(labels, stream)
        asked.append((labels, images))
        return images

    plan = context.plan
    context.evaluator.evaluate(
        generate, override=plan.overrides[digits_settings(plan.space).override], samples=60, forget_samples=40
    )
    labels = torch.cat([labels for labels, _ in asked]).numpy()
    images = torch.cat([images for _, images in asked])
    assert np.bincount(labels).tolist() == [20, 20, *[8] * 8]
    assert report.samples == {"retained": 64, "forgotten": 40}

    real = load_images("builtin:digits")
    features = Judged(real.at(torch.arange(len(real)))).features
    of_real = {label: features[real.labels.numpy() == label] for label in range(10)}
    replaced = {"each its own": {0: [2], 1: [3]}, "one for both": {0: [7], 1: [7]}}.get(
        override, {0: RETAIN, 1: RETAIN}
    )
    judged = Judged(images)
    forgotten = np.isin(labels, FORGET)
    each = [distance(judged.features[labels == c], np.concatenate([of_real[to] for to in replaced[c]])) for c in FORGET]
    called, probabilities = judged.called[forgotten], judged.probabilities[forgotten]
    expected = {
        "fd_classifier": distance(judged.features[~forgotten], np.concatenate([of_real[c] for c in RETAIN])),
        "retain_accuracy": np.mean(judged.called[~forgotten] == labels[~forgotten]),
        "unlearning_accuracy": 1 - np.mean((called == 0) | (called == 1)),
        "leak_rate": np.mean(np.isin(judged.called[~forgotten], FORGET)),
        "override_distance": np.mean(each),
        "override_rate": np.mean([now in replaced[c] for c, now in zip(labels[forgotten], called, strict=True)]),
        "forget_probability": np.mean(probabilities[:, 0] + probabilities[:, 1]),
        "forget_entropy": -np.mean(np.sum(probabilities * np.log(probabilities), 1)),
    }
    assert report.metrics == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_the_grid_marks_both_forgotten_classes(trained):
    _, _, folder, _, _ = trained
    picture = np.asarray(Image.open(io.BytesIO(step_folder(folder, 2).read(GRID))).convert("RGB")).astype(int)
    red = (picture[..., 0] > picture[..., 1] + 60) & (picture[..., 0] > picture[..., 2] + 60)
    assert 0.15 < red[:, -60:].any(1).mean() < 0.25  # the frames of two rows in ten
