"""Inception-V3 as FID has it: the weights of 2015-12-05, through clean-fid's loader."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

import torch
import torch.nn.functional as F
from cleanfid.downloads_helper import inception_url
from cleanfid.inception_torchscript import InceptionV3W
from torch import Tensor

from sfd_sweep.errors import UserError

WEIGHTS = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
TIMEOUT = 10  # seconds without an answer
SIZE = 299
CHUNK = 100
"""Images that go through the network at a time: the first layers hold 11 MB for each of them."""

Mode = Literal["clean", "legacy_tensorflow"]


class Inception:
    """Features and class probabilities of images.

    Args:
        weights: the folder that holds the weights.
        mode: `clean` resizes with antialiasing, as Pillow does in floating point (Parmar, Zhang & Zhu, "On Aliased
            Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022); `legacy_tensorflow` resizes inside the
            network, without antialiasing, as the figures of older papers were measured.
        device: where it runs.
    """

    name = "inception"
    dimensions = 2048

    def __init__(self, weights: Path, mode: Mode, device: torch.device | str = "cpu") -> None:
        self._network = InceptionV3W(str(weights), download=False, resize_inside=mode == "legacy_tensorflow")
        self._network.to(device).requires_grad_(False)
        self._mode = mode

    @classmethod
    def load(cls, weights: str | None, mode: Mode, device: torch.device | str = "cpu") -> Inception:
        """The network, whose weights are fetched where they are not on this machine yet.

        Args:
            weights: a file, a folder that holds it, or a URL; None: where clean-fid fetches it from.
            mode: see the class.
            device: where it runs.

        Raises:
            UserError: the weights are missing and cannot be fetched, or are not those that FID is defined on.
        """
        return cls(find_weights(weights), mode, device)

    def content_hash(self) -> str:
        """What tells its features from others'."""
        return f"{SHA256} {self._mode}"

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features of shape (n, 2048) of images of shape (n, 1 or 3, H, W) in [-1, 1], rounded to 8 bits."""
        return torch.cat([self._network(self._resized(chunk)) for chunk in _pixels(images).split(CHUNK)])

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of shape (n, 1008) of its classes, for the Inception score; images as in `features`.

        As the original score has it, the logits have no bias, and the network resizes by itself.
        """
        return torch.cat([self._network.base(chunk, no_output_bias=True) for chunk in _pixels(images).split(CHUNK)])

    def _resized(self, pixels: Tensor) -> Tensor:
        if self._mode == "legacy_tensorflow":
            return pixels
        return F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)


def _pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as three channels of whole numbers from 0 to 255, float32."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().expand(-1, 3, -1, -1)


def find_weights(weights: str | None) -> Path:
    """The folder that holds the weights on this machine.

    Raises:
        UserError: see `Inception.load`.
    """
    if weights is not None and "://" not in weights:
        return _checked(Path(weights).expanduser())
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sfd-sweep"
    if not (folder / WEIGHTS).is_file():
        _fetch(weights or inception_url, folder)
    return _checked(folder)


def _checked(path: Path) -> Path:
    file = path / WEIGHTS if path.is_dir() else path
    if file.name != WEIGHTS or not file.is_file():
        raise UserError(f"evaluation.inception.weights: there is no {WEIGHTS} at {path}; fetch it from {inception_url}")
    if _sha256(file) != SHA256:
        raise UserError(
            f"{file} is not the file that FID is defined on (its SHA-256 is not {SHA256[:12]}…); remove it and fetch "
            f"it again from {inception_url}"
        )
    return file.parent


def _fetch(url: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            part = Path(scratch) / WEIGHTS
            with urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file)
            _checked(part)
            part.replace(folder / WEIGHTS)
    except (URLError, OSError, ValueError) as error:
        raise UserError(
            f"Inception's weights could not be fetched from {url} ({error}); put {WEIGHTS} into {folder}, or name it "
            "in evaluation.inception.weights, or choose fd_classifier, which needs none"
        ) from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
