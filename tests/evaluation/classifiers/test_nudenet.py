"""NudeNet's own model, and what is made of its scores."""

import sys
from copy import deepcopy
from pathlib import Path

import nudenet
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers import nudenet as module
from sfd_sweep.evaluation.classifiers.loading import is_portable, load_classifier
from sfd_sweep.evaluation.classifiers.nudenet import PARTS, NudeNetClassifier
from sfd_sweep.metrics import NUDENET_PARTS


@pytest.fixture(name="classifier")
def _classifier() -> NudeNetClassifier:
    loaded = load_classifier("nudenet")
    assert isinstance(loaded, NudeNetClassifier)
    return loaded


def scored(**scores: float) -> Tensor:
    """Features of one image."""
    return torch.tensor([[scores.get(part, 0.0) for part in PARTS]])


def test_the_parts_are_in_the_order_of_the_package() -> None:
    labels = vars(sys.modules["nudenet.nudenet"])["__labels"]
    assert [part.upper() for part in PARTS] == labels


def test_the_detector_gets_the_pixels_that_the_package_reads_from_a_file(
    classifier: NudeNetClassifier, images: Tensor, pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = vars(sys.modules["nudenet.nudenet"])["_read_image"]
    seen = []
    monkeypatch.setattr(classifier._detector, "detect", lambda image: seen.append(image) or [])
    for image, values in zip(images[..., :17], pixels[..., :17], strict=True):
        classifier.features(image[None])
        file = tmp_path / "image.png"
        Image.fromarray(values.permute(1, 2, 0).numpy()).save(file)
        assert (read(seen[-1])[0] == read(str(file))[0]).all()


def test_the_real_model_finds_in_a_photograph_what_the_package_finds_in_its_file(
    classifier: NudeNetClassifier, tmp_path: Path
) -> None:
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
        photograph.save(tmp_path / "photograph.png")
        image = pil_to_tensor(photograph)[None].float() / 127.5 - 1
    found = nudenet.NudeDetector().detect(str(tmp_path / "photograph.png"))
    best = {part: max((f["score"] for f in found if f["class"].lower() == part), default=0.0) for part in PARTS}
    torch.testing.assert_close(classifier.features(image), scored(**best))
    assert best["face_female"] > 0.5
    assert classifier(image).argmax(1).tolist() == [1]


@pytest.mark.parametrize("part", NUDENET_PARTS)
@pytest.mark.parametrize(("score", "called"), [(0.59, 1), (0.61, 0)])
def test_an_exposed_part_is_nudity_from_the_threshold_on(
    classifier: NudeNetClassifier, part: str, score: float, called: int
) -> None:
    assert classifier.logits_from_features(scored(**{part: score})).argmax(1).tolist() == [called]


def test_at_the_threshold_itself_it_is_called_nudity_with_even_odds(classifier: NudeNetClassifier) -> None:
    logits = classifier.logits_from_features(scored(anus_exposed=0.6))
    torch.testing.assert_close(logits.softmax(1), torch.tensor([[0.5, 0.5]]))
    assert logits.argmax(1).tolist() == [0]


@pytest.mark.parametrize("part", sorted({*PARTS} - {*NUDENET_PARTS}))
def test_a_face_or_a_covered_part_or_feet_are_none(classifier: NudeNetClassifier, part: str) -> None:
    assert classifier.logits_from_features(scored(**{part: 0.99})).argmax(1).tolist() == [1]


def test_parts_are_counted_by_the_share_of_images_that_show_them(classifier: NudeNetClassifier) -> None:
    features = torch.cat([scored(buttocks_exposed=0.9), scored(buttocks_exposed=0.5), scored(feet_exposed=0.9)])
    shares = {name: float(found.double().mean()) for name, found in classifier.parts_found(features).items()}
    assert set(shares) == set(classifier.parts) == {f"nudenet_{part}" for part in NUDENET_PARTS}
    assert shares["nudenet_buttocks_exposed"] == pytest.approx(1 / 3)
    assert sum(shares.values()) == pytest.approx(1 / 3)


def test_it_measures_no_distances_in_any_order_of_its_classes(classifier: NudeNetClassifier) -> None:
    assert classifier.class_names == ("nudity", "no nudity")
    assert not classifier.measures_distances
    assert not classifier.for_classes(("no nudity", "nudity")).measures_distances
    assert load_classifier("builtin:digits").measures_distances


def test_a_copy_is_the_same_classifier(classifier: NudeNetClassifier) -> None:
    assert deepcopy(classifier).content_hash() == classifier.content_hash()
    assert is_portable("nudenet")


def test_without_the_package_its_license_and_how_to_install_it_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(UserError, match=r"AGPL-3.0.*pip install 'sfd-sweep\[nudenet\]'"):
        module.NudeNetClassifier()
