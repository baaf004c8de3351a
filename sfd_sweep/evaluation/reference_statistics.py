"""Reference statistics, computed once for all trials and sweeps that need them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load, save
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.frechet import Statistics
from sfd_sweep.evaluation.image_scorer import FeatureExtractor, ImageScorer
from sfd_sweep.evaluation.reference_images import ReferenceImages
from sfd_sweep.metrics import MOST_COMPARED
from sfd_sweep.storage.folder import Folder


@dataclass(frozen=True)
class Reference:
    """A group of classes, as an extractor sees their reference images.

    Attributes:
        statistics: of all images' features.
        features: of some of them, one by one: what kernel distance, precision and recall are measured on; float32 of
            shape (at most 10,000, d) on the CPU.
    """

    statistics: Statistics
    features: Tensor


class _Record(BaseModel):
    """The JSON beside cached statistics: what they are of, and a hash that tells whether the file is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    count: int
    sha256: str


class References:
    """References for groups of classes, as a judge's networks see them.

    In the cache a group is a pair of files named by a hash of its images and of the network, so sweeps share them, and
    a changed classifier or dataset finds none. A broken or half-written pair is computed and written again.

    Args:
        judge: how images are looked at.
        images: of all classes.
        class_names: by index.
        cache: the folder that statistics are kept in between processes; None keeps them in this one alone.
        batch_size: the most images that are made or looked at at a time.
    """

    def __init__(
        self,
        judge: ImageScorer,
        images: ReferenceImages,
        class_names: Sequence[str],
        cache: Folder | None,
        batch_size: int = 500,
    ) -> None:
        self._judge = judge
        self._images = images
        self._class_names = class_names
        self._cache = cache
        self._batch_size = batch_size
        self._known: dict[tuple[str, tuple[int, ...]], Reference] = {}

    def of_classes(self, extractor: FeatureExtractor, classes: Sequence[int]) -> Reference:
        """The reference of all images of some classes.

        Raises:
            UserError: there are too few such images for a distance on so many features.
        """
        group = tuple(sorted(set(classes)))
        key = (extractor.content_hash(), group)
        if key not in self._known:
            self._known[key] = self._checked(self._find(extractor, group), group)
        return self._known[key]

    def _find(self, extractor: FeatureExtractor, group: tuple[int, ...]) -> Reference:
        count = self._images.count(group)
        if count < 2:
            raise UserError(f"{count} reference images of class {self._names(group)}: a distance needs two or more")
        if self._cache is None:
            return self._compute(extractor, group)
        key = hashlib.sha256(f"{extractor.content_hash()} {self._images.content_hash(group)}".encode()).hexdigest()
        with _alone(self._cache, key):  # slots that start together need the same
            reference = _read(self._cache, key)
            if reference is None:
                reference = self._compute(extractor, group)
                _write(self._cache, key, reference, tuple(self._class_names[index] for index in group))
        return reference

    @torch.no_grad()
    def _compute(self, extractor: FeatureExtractor, group: tuple[int, ...]) -> Reference:
        batches = self._images.batches(group, self._batch_size)
        features = [extractor.features(self._judge.seen(batch)) for batch in batches]
        return Reference(Statistics.over(features), evenly_drawn(torch.cat(features)).float().cpu())

    def _checked(self, reference: Reference, group: tuple[int, ...]) -> Reference:
        count, size = reference.statistics.count, len(reference.statistics.mean)
        if count <= size:
            raise UserError(
                f"{count} reference images of class {self._names(group)}, but a Fréchet distance on {size} features is "
                f"undefined with fewer than {size + 1}; give more images, or choose metrics that need none: "
                "unlearning_accuracy, retain_accuracy, override_rate, or fd_classifier on a classifier with fewer"
            )
        return reference

    def _names(self, group: tuple[int, ...]) -> str:
        return ", ".join(self._class_names[index] for index in group)


def evenly_drawn(features: Tensor) -> Tensor:
    """At most 10,000 of the features (n, d), every one with the same chance, always the same ones."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order[:MOST_COMPARED].to(features.device)]


def remembered(cache: Folder | None, what: str, compute: Callable[[], float]) -> float:
    """A figure that sweeps share like references, computed where it is not known yet.

    Args:
        what: everything that it depends on.
    """
    if cache is None:
        return compute()
    key = hashlib.sha256(what.encode()).hexdigest()
    with _alone(cache, key):
        try:
            return float(json.loads(cache.read(f"{key}.json")))
        except (FileNotFoundError, ValueError, TypeError):
            figure = compute()
            cache.write(f"{key}.json", json.dumps(figure).encode())
            return figure


@contextmanager
def _alone(cache: Folder, key: str) -> Iterator[None]:
    """One process of those that share a disk at a time; on an object store the last one's equal file stays."""
    if cache.is_local:
        Path(cache.path).mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cache.path}/{key}.lock") if cache.is_local else nullcontext():
        yield


def _read(cache: Folder, key: str) -> Reference | None:
    """The reference of a key, or None if the cache has no whole pair of files for it."""
    try:
        record = _Record.model_validate_json(cache.read(f"{key}.json"))
        content = cache.read(f"{key}.safetensors")
    except (FileNotFoundError, ValidationError):
        return None
    if hashlib.sha256(content).hexdigest() != record.sha256:
        return None
    tensors = load(content)
    return Reference(Statistics(tensors["mean"], tensors["covariance"], record.count), tensors["features"])


def _write(cache: Folder, key: str, reference: Reference, classes: tuple[str, ...]) -> None:
    statistics = reference.statistics
    tensors = {"mean": statistics.mean, "covariance": statistics.covariance, "features": reference.features}
    content = save(tensors)
    record = _Record(classes=classes, count=statistics.count, sha256=hashlib.sha256(content).hexdigest())
    cache.write(f"{key}.safetensors", content)
    cache.write(f"{key}.json", (record.model_dump_json(indent=1) + "\n").encode())
