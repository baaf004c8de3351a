from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.features import build_feature_extractor
from cleanfid.fid import get_folder_features
from cleanfid.resize import build_resizer
from PIL import Image
from stand_in_inception import write_stand_in

from sfd_sweep.evaluation import inception
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.inception_weights import WEIGHTS


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_stand_in(tmp_path / "weights", monkeypatch)


@pytest.fixture
def pixels() -> np.ndarray:
    """Twelve smooth color pictures of 32×32 pixels, 8 bits, (n, H, W, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in coarse])


def _images(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.mark.parametrize("mode", ["clean", "legacy_tensorflow"])
def test_features_are_those_that_clean_fid_measures_on_files(
    weights: Path, pixels: np.ndarray, tmp_path: Path, mode: inception.Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(files / f"{index:02d}.png")
    original = inception.InceptionV3W.__init__
    monkeypatch.setattr(
        inception.InceptionV3W,
        "__init__",
        lambda self, _path, download, resize_inside: original(self, str(weights), False, resize_inside),
    )
    extractor = build_feature_extractor(mode, torch.device("cpu"), use_dataparallel=False)
    expected = get_folder_features(
        str(files), extractor, num_workers=0, device=torch.device("cpu"), mode=mode, verbose=False
    )
    monkeypatch.setattr(inception.InceptionV3W, "__init__", original)
    found = Inception(weights, mode).features(_images(pixels))
    assert found.shape == (12, 2048)
    scale = expected.std()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4 * scale)


def test_clean_resizing_is_pillows_in_floating_point(weights: Path, pixels: np.ndarray) -> None:
    resize = build_resizer("clean")
    expected = np.stack([resize(image) for image in pixels]).transpose(0, 3, 1, 2)
    found = Inception(weights, "clean")._resized(torch.tensor(pixels).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)  # of 255


def test_the_two_modes_see_different_images(weights: Path, pixels: np.ndarray) -> None:
    clean, legacy = (Inception(weights, mode).features(_images(pixels)) for mode in ("clean", "legacy_tensorflow"))
    assert float((clean - legacy).abs().max()) > 1e-3
    assert Inception(weights, "clean").content_hash() != Inception(weights, "legacy_tensorflow").content_hash()


def test_images_are_rounded_to_eight_bits_and_clipped(weights: Path, pixels: np.ndarray) -> None:
    network, images = Inception(weights, "clean"), _images(pixels)
    nudged = images + 0.4 / 127.5 * torch.linspace(-1, 1, 32)
    assert torch.equal(network.features(images), network.features(nudged))
    assert torch.equal(network.features(torch.ones(2, 3, 8, 8)), network.features(torch.full((2, 3, 8, 8), 1.7)))


def test_gray_images_are_seen_as_color(weights: Path, pixels: np.ndarray) -> None:
    network, gray = Inception(weights, "clean"), _images(pixels)[:, :1]
    assert torch.equal(network.features(gray), network.features(gray.repeat(1, 3, 1, 1)))


def test_probabilities_have_no_bias_and_sum_to_one(weights: Path, pixels: np.ndarray) -> None:
    network = Inception(weights, "clean")
    base = torch.jit.load(weights / WEIGHTS)
    raw = torch.tensor(pixels).permute(0, 3, 1, 2).float()
    expected = (base(raw, return_features=True) @ base.output.weight.T).softmax(1)
    torch.testing.assert_close(network.probabilities(_images(pixels)), expected)
