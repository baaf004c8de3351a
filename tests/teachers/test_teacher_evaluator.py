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
