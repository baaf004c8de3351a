from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.image_scorer import ImageScorer
from sfd_sweep.evaluation.reference_images import RealImages
from sfd_sweep.evaluation.reference_statistics import DIGEST, References, cached
from sfd_sweep.metrics.statistics import Statistics
from sfd_sweep.storage.folder import Folder


@pytest.fixture
def scorer(classifier: Classifier) -> ImageScorer:
    return ImageScorer(classifier, levels=17, device=torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "references"


def _references(scorer: ImageScorer, digits: LabeledImages, cache: Folder | None) -> References:
    return References(scorer, RealImages(digits), digits.class_names, cache)


def _statistics(scorer: ImageScorer, digits: LabeledImages, cache: Folder | None, *classes: int) -> Statistics:
    return _references(scorer, digits, cache).of(scorer.classifier, classes).statistics


def _equal(a: Statistics, b: Statistics) -> bool:
    return a.count == b.count and torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance)


def test_a_reference_is_of_the_features_of_all_images_of_its_classes(
    scorer: ImageScorer, digits: LabeledImages
) -> None:
    chosen = (digits.labels == 3) | (digits.labels == 5)
    features = scorer.classifier.features(digits.images[chosen]).double().numpy()
    statistics = _statistics(scorer, digits, None, 5, 3)
    assert statistics.count == int(chosen.sum())
    np.testing.assert_allclose(statistics.mean.numpy(), features.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics.covariance.numpy(), np.cov(features.T), rtol=1e-4, atol=1e-5)


def test_a_cached_reference_is_read_and_not_computed(
    scorer: ImageScorer, digits: LabeledImages, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = _statistics(scorer, digits, Folder.open(folder), 1)
    monkeypatch.delattr(References, "_compute")
    assert _equal(_statistics(scorer, digits, Folder.open(folder), 1), written)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _lose_the_digest(path: Path) -> None:
    save_file({name: tensor for name, tensor in load_file(path).items() if name != DIGEST}, path)


@pytest.mark.parametrize("break_it", [_truncate, _flip_a_bit, _empty, Path.unlink, _lose_the_digest])
def test_a_broken_cache_is_computed_and_written_again(
    scorer: ImageScorer, digits: LabeledImages, folder: Path, break_it: Callable[[Path], None]
) -> None:
    written = _statistics(scorer, digits, Folder.open(folder), 1)
    (path,) = folder.glob("*.safetensors")
    content = path.read_bytes()
    break_it(path)
    assert _equal(_statistics(scorer, digits, Folder.open(folder), 1), written)
    assert path.read_bytes() == content


def test_other_images_classes_levels_or_weights_have_files_of_their_own(
    scorer: ImageScorer, digits: LabeledImages, folder: Path
) -> None:
    cache, other = Folder.open(folder), deepcopy(scorer)
    other.classifier.head.bias.data += 1
    _statistics(scorer, digits, cache, 1)
    _statistics(scorer, digits, cache, 1, 2)
    _statistics(scorer, digits.take(torch.arange(1000)), cache, 1)
    _statistics(scorer, replace(digits, levels=256), cache, 1)
    _statistics(other, digits, cache, 1)
    assert len(list(folder.glob("*.safetensors"))) == 5


def test_one_image_is_no_reference(scorer: ImageScorer, digits: LabeledImages) -> None:
    ones = digits.of_classes([1]).take(torch.tensor([0]))
    with pytest.raises(UserError, match="1 reference images of class 1: a distance needs two or more"):
        _statistics(scorer, ones, None, 1)


def test_tensors_are_computed_once_for_all_that_share_a_cache(folder: Path) -> None:
    values = iter([0.25, 0.5, 0.75, 1.0])

    def found(cache: Folder | None, what: str) -> float:
        return float(cached(cache, what, lambda: {"value": torch.tensor(next(values))})["value"])

    cache = Folder.open(folder)
    assert [found(cache, what) for what in ("a", "a", "b")] == [0.25, 0.25, 0.5]
    for path in folder.glob("*.safetensors"):
        path.write_text("{")
    assert found(cache, "a") == 0.75
    assert found(None, "a") == 1.0
