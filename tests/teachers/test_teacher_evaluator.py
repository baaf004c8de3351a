"""Real images are brought to the classifier's size, and to its order of the classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import encode, write_parquet
from sklearn.datasets import load_digits

from sfd_sweep.errors import UserError
from sfd_sweep.teachers.teacher_evaluator import TeacherEvaluator

DIGITS = load_digits()
LARGE = [np.kron(digit * 15, np.ones((4, 4))).astype(np.uint8) for digit in DIGITS.images[:60]]


def test_a_reference_of_another_size_and_order_is_what_the_classifier_knows(tmp_path: Path) -> None:
    turned = [9 - int(label) for label in DIGITS.target[:60]]
    file = write_parquet(tmp_path / "a.parquet", [encode(i, "PNG") for i in LARGE], turned, tuple("9876543210"))
    evaluator = TeacherEvaluator.load(reference=str(file))
    assert evaluator.images.image_shape == (1, 8, 8)
    assert evaluator.images.class_names == tuple("0123456789")
    called = evaluator.classifier(evaluator.images.images).argmax(1)
    assert torch.equal(evaluator.images.labels, torch.from_numpy(DIGITS.target[:60]))
    assert (called == evaluator.images.labels).double().mean() > 0.9


def test_a_reference_of_other_classes_or_colors_is_refused(tmp_path: Path) -> None:
    images = [encode(image, "PNG") for image in LARGE]
    named = write_parquet(tmp_path / "named.parquet", images, [0] * 60, ("zero",))
    with pytest.raises(UserError, match="the images have no class '0'"):
        TeacherEvaluator.load(reference=str(named))
    colored = [encode(np.stack([image] * 3, -1), "PNG") for image in LARGE]
    with pytest.raises(UserError, match="takes images of 1 channels, not of 3"):
        TeacherEvaluator.load(reference=str(write_parquet(tmp_path / "rgb.parquet", colored, [0] * 60)))


def test_a_model_without_a_class_is_measured_on_the_others_in_its_own_order() -> None:
    order = tuple("3210456789")
    whole = TeacherEvaluator.load()
    evaluator = whole.of_model(order, [3])  # without zeros
    shown = evaluator.images
    assert shown.class_names == order
    assert torch.equal(shown.images, whole.images.images[whole.images.labels != 0])
    assert [order[label] for label in shown.labels.tolist()] == [
        str(label) for label in whole.images.labels.tolist() if label != 0
    ]
    asked: list[int] = []

    def generate(c: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        asked.extend(c.tolist())
        return torch.stack([shown.images[shown.labels == label][len(asked) % 100] for label in c.tolist()])

    assert evaluator.distance(generate, samples=900) > 0
    assert {label: asked.count(label) for label in set(asked)} == dict.fromkeys({*range(10)} - {3}, 100)


def test_real_images_of_the_known_classes_are_at_no_distance() -> None:
    evaluator = TeacherEvaluator.load().of_model(tuple("0123456789"), [0])
    real = iter(evaluator.images.batches(500))
    count = len(evaluator.images)
    assert evaluator.distance(lambda _c, _noise: next(real), samples=count) == pytest.approx(0, abs=1e-6)
