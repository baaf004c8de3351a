import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.frechet import Statistics
from sfd_sweep.evaluation.image_scorer import ImageScorer
from sfd_sweep.evaluation.reference_images import RealImages
from sfd_sweep.evaluation.reference_statistics import References, remembered
from sfd_sweep.storage.folder import Folder


@pytest.fixture
def judge(classifier: Classifier) -> ImageScorer:
    return ImageScorer(classifier, levels=17, device=torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "references"


def _references(judge: ImageScorer, digits: LabeledImages, cache: Folder | None) -> References:
    return References(judge, RealImages(digits), digits.class_names, cache)


def _statistics(judge: ImageScorer, digits: LabeledImages, cache: Folder | None, *classes: int) -> Statistics:
    return _references(judge, digits, cache).of_classes(judge.classifier, classes).statistics


def _equal(a: Statistics, b: Statistics) -> bool:
    return a.count == b.count and torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance)


def test_a_reference_is_of_the_features_of_all_images_of_its_classes(judge: ImageScorer, digits: LabeledImages) -> None:
    chosen = (digits.labels == 3) | (digits.labels == 5)
    features = judge.classifier.features(digits.images[chosen]).double().numpy()
    statistics = _statistics(judge, digits, None, 5, 3)
    assert statistics.count == int(chosen.sum())
    np.testing.assert_allclose(statistics.mean.numpy(), features.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics.covariance.numpy(), np.cov(features.T), rtol=1e-4, atol=1e-5)


def test_a_cached_reference_is_read_and_not_computed(judge: ImageScorer, digits: LabeledImages, folder: Path) -> None:
    written = _statistics(judge, digits, Folder.open(folder), 1)
    (data,) = folder.glob("*.safetensors")
    (record,) = folder.glob("*.json")
    # Nobody computes a count of 12345: who finds it has read the file.
    record.write_text(json.dumps({**json.loads(record.read_text()), "count": 12345}))
    read = _statistics(judge, digits, Folder.open(folder), 1)
    assert read.count == 12345
    assert torch.equal(read.covariance, written.covariance)
    assert data.stem == record.stem


def _truncate(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_bit(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def _lose_the_statistics(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.unlink()


def _lose_the_record(folder: Path) -> None:
    (path,) = folder.glob("*.json")
    path.unlink()


def _cut_the_record(folder: Path) -> None:
    (path,) = folder.glob("*.json")
    path.write_text(path.read_text()[:40])


@pytest.mark.parametrize("break_it", [_truncate, _flip_a_bit, _lose_the_statistics, _lose_the_record, _cut_the_record])
def test_a_broken_cache_is_computed_and_written_again(
    judge: ImageScorer, digits: LabeledImages, folder: Path, break_it: Callable[[Path], None]
) -> None:
    written = _statistics(judge, digits, Folder.open(folder), 1)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    break_it(folder)
    assert _equal(_statistics(judge, digits, Folder.open(folder), 1), written)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_other_images_classes_levels_or_weights_have_files_of_their_own(
    judge: ImageScorer, digits: LabeledImages, folder: Path
) -> None:
    cache = Folder.open(folder)
    _statistics(judge, digits, cache, 1)
    _statistics(judge, digits, cache, 1, 2)
    _statistics(judge, digits.take(torch.arange(1000)), cache, 1)
    _statistics(judge, replace(digits, levels=256), cache, 1)
    judge.classifier.head.bias.data += 1
    _statistics(judge, digits, cache, 1)
    assert len(list(folder.glob("*.json"))) == 5


def test_one_image_is_no_reference(judge: ImageScorer, digits: LabeledImages) -> None:
    ones = digits.of_classes([1]).take(torch.tensor([0]))
    with pytest.raises(UserError, match="1 reference images of class 1: a distance needs two or more"):
        _statistics(judge, ones, None, 1)


def test_a_figure_is_computed_once_for_all_that_share_a_cache(folder: Path) -> None:
    figures = iter([0.25, 0.5, 0.75, 1.0])
    cache = Folder.open(folder)
    assert [remembered(cache, what, lambda: next(figures)) for what in ("a", "a", "b")] == [0.25, 0.25, 0.5]
    for path in folder.glob("*.json"):
        path.write_text("{")
    assert remembered(cache, "a", lambda: next(figures)) == 0.75
    assert remembered(None, "a", lambda: next(figures)) == 1.0
