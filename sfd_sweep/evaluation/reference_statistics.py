"""Features of reference images, computed once for all trials and sweeps that need them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.image_scorer import ImageScorer
from sfd_sweep.evaluation.reference_images import ReferenceImages
from sfd_sweep.metrics.evidence import Reference, evenly_drawn
from sfd_sweep.metrics.statistics import Statistics
from sfd_sweep.storage.folder import Folder

DIGEST = "sha256"
"""The tensor of a cached file that shows whether the others are unchanged."""


class FeatureExtractor(Protocol):
    """A network on whose features distances are measured: a classifier or Inception-V3."""

    def features(self, images: Tensor) -> Tensor:
        """Return features of shape (n, d) of images of shape (n, C, H, W) in [-1, 1]."""

    def content_hash(self) -> str:
        """Return the same for networks with the same features."""


class References:
    """References of groups of conditions.

    Args:
        scorer: prepares the images.
        images: of all conditions.
        names: of the conditions, by index.
        cache: a folder that sweeps share; None keeps references in this process alone.
        batch_size: the most images that are made or scored at a time.
    """

    def __init__(
        self,
        scorer: ImageScorer,
        images: ReferenceImages,
        names: Sequence[str],
        cache: Folder | None,
        batch_size: int = 500,
    ) -> None:
        self._scorer = scorer
        self._images = images
        self._names = names
        self._cache = cache
        self._batch_size = batch_size
        self._known: dict[tuple[str, tuple[int, ...]], Reference] = {}

    def of(self, extractor: FeatureExtractor, conditions: Sequence[int]) -> Reference:
        """Return the reference of all images of some conditions.

        Raises:
            UserError: there are too few images for a distance on so many features.
        """
        group = tuple(sorted(set(conditions)))
        key = (extractor.content_hash(), group)
        if key not in self._known:
            self._known[key] = self._find(extractor, group)
        return self._known[key]

    def _find(self, extractor: FeatureExtractor, group: tuple[int, ...]) -> Reference:
        names, count = ", ".join(self._names[index] for index in group), self._images.count(group)
        if count < 2:
            raise UserError(f"{count} reference images of class {names}: a distance needs two or more")
        what = "" if self._cache is None else f"{extractor.content_hash()} {self._images.content_hash(group)}"
        found = cached(self._cache, what, lambda: self._compute(extractor, group))
        count, size = int(found["count"]), len(found["mean"])
        if count <= size:
            raise UserError(
                f"{count} reference images of class {names}, but a Fréchet distance on {size} features is undefined "
                f"with fewer than {size + 1}; give more images, or choose metrics that need none: "
                "unlearning_accuracy, retain_accuracy, override_rate, or fd_classifier on a classifier with fewer"
            )
        return Reference(Statistics(found["mean"], found["covariance"], count), found["features"])

    @torch.no_grad()
    def _compute(self, extractor: FeatureExtractor, group: tuple[int, ...]) -> dict[str, Tensor]:
        batches = self._images.batches(group, self._batch_size)
        features = [extractor.features(self._scorer.prepare(batch)) for batch in batches]
        statistics = Statistics.over(features)
        return {
            "mean": statistics.mean,
            "covariance": statistics.covariance,
            "count": torch.tensor(statistics.count),
            "features": evenly_drawn(torch.cat(features)).float().cpu(),
        }


def cached(cache: Folder | None, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors that sweeps share, computed where the cache has no intact file of them.

    Args:
        cache: a folder; None computes them.
        what: everything that they depend on, whose hash names their file.
        compute: returns tensors on the CPU.
    """
    if cache is None:
        return compute()
    file = f"{hashlib.sha256(what.encode()).hexdigest()}.safetensors"
    with _locked(cache, file):  # slots that start together need the same
        tensors = _read(cache, file)
        if tensors is None:
            tensors = compute()
            cache.write(file, save({**tensors, DIGEST: _digest(tensors)}))
    return tensors


@contextmanager
def _locked(cache: Folder, file: str) -> Iterator[None]:
    """Exclude other processes that share a disk; on an object store equal files overwrite each other."""
    if cache.is_local:
        Path(cache.path).mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cache.path}/{file}.lock") if cache.is_local else nullcontext():
        yield


def _read(cache: Folder, file: str) -> dict[str, Tensor] | None:
    try:
        tensors = load(cache.read(file))
    except (FileNotFoundError, SafetensorError):
        return None
    digest = tensors.pop(DIGEST, None)
    return tensors if digest is not None and torch.equal(digest, _digest(tensors)) else None


def _digest(tensors: dict[str, Tensor]) -> Tensor:
    """Return the SHA-256 of tensors as bytes."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(content.digest()), dtype=torch.uint8)
