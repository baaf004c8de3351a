"""Real images are brought to the judge: its size, its order of the classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import encode, write_parquet
from sklearn.datasets import load_digits

from sfd_sweep.errors import UserError
from sfd_sweep.teachers.quality import QualityJudge

DIGITS = load_digits()
LARGE = [np.kron(digit * 15, np.ones((4, 4))).astype(np.uint8) for digit in DIGITS.images[:60]]


def test_a_reference_of_another_size_and_order_is_what_the_judge_knows(tmp_path: Path) -> None:
    turned = [9 - int(label) for label in DIGITS.target[:60]]
    file = write_parquet(tmp_path / "a.parquet", [encode(i, "PNG") for i in LARGE], turned, tuple("9876543210"))
    judge = QualityJudge.load(reference=str(file))
    assert judge.images.image_shape == (1, 8, 8)
    assert judge.images.class_names == tuple("0123456789")
    called = judge.classifier(judge.images.images).argmax(1)
    assert torch.equal(judge.images.labels, torch.from_numpy(DIGITS.target[:60]))
    assert (called == judge.images.labels).double().mean() > 0.9


def test_a_reference_of_other_classes_or_colours_is_refused(tmp_path: Path) -> None:
    images = [encode(image, "PNG") for image in LARGE]
    named = write_parquet(tmp_path / "named.parquet", images, [0] * 60, ("zero",))
    with pytest.raises(UserError, match="the images have no class '0'"):
        QualityJudge.load(reference=str(named))
    coloured = [encode(np.stack([image] * 3, -1), "PNG") for image in LARGE]
    with pytest.raises(UserError, match="judges images of 1 channels, not of 3"):
        QualityJudge.load(reference=str(write_parquet(tmp_path / "rgb.parquet", coloured, [0] * 60)))
