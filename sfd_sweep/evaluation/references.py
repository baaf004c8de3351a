"""Statistics of real images, computed once for all trials and sweeps that need them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load, save

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.frechet import Statistics
from sfd_sweep.evaluation.judge import Judge
from sfd_sweep.storage import Folder

BATCH_SIZE = 500


class _Record(BaseModel):
    """The JSON beside cached statistics: what they are of, and a hash that tells whether the file is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    count: int
    sha256: str


class References:
    """Reference statistics of groups of classes, as a judge sees their real images.

    In the cache a group is a pair of files named by a hash of its images and of the judge, so sweeps share them, and a
    changed classifier or dataset finds none. A broken or half-written pair is computed and written again.

    Args:
        judge: whose features the statistics are of.
        images: real ones of all classes.
        cache: the folder that statistics are kept in between processes; None keeps them in this one alone.
    """

    def __init__(self, judge: Judge, images: LabeledImages, cache: Folder | None) -> None:
        self._judge = judge
        self._images = images
        self._cache = cache
        self._known: dict[tuple[int, ...], Statistics] = {}

    def of_classes(self, classes: Sequence[int]) -> Statistics:
        """The statistics of all real images of some classes.

        Raises:
            UserError: there are fewer than two such images.
        """
        group = tuple(sorted(set(classes)))
        if group not in self._known:
            self._known[group] = self._find(group)
        return self._known[group]

    def _find(self, group: tuple[int, ...]) -> Statistics:
        images = self._images.of_classes(group)
        names = tuple(images.class_names[index] for index in group)
        if len(images) < 2:
            raise UserError(f"{len(images)} reference images of class {', '.join(names)}: a distance needs two or more")
        if self._cache is None:
            return self._compute(images)
        key = self._key(images)
        statistics = _read(self._cache, key)
        if statistics is None:
            statistics = self._compute(images)
            _write(self._cache, key, statistics, names)
        return statistics

    def _compute(self, images: LabeledImages) -> Statistics:
        return self._judge.verdict(images.batches(BATCH_SIZE)).statistics

    def _key(self, images: LabeledImages) -> str:
        content = hashlib.sha256(self._judge.classifier.content_hash().encode())
        content.update(f"{self._judge.levels} {tuple(images.pixels.shape)}".encode())
        content.update(images.pixels.numpy().tobytes())
        return content.hexdigest()


def _read(cache: Folder, key: str) -> Statistics | None:
    """The statistics of a key, or None if the cache has no whole pair of files for it."""
    try:
        record = _Record.model_validate_json(cache.read(f"{key}.json"))
        content = cache.read(f"{key}.safetensors")
    except (FileNotFoundError, ValidationError):
        return None
    if hashlib.sha256(content).hexdigest() != record.sha256:
        return None
    tensors = load(content)
    return Statistics(tensors["mean"], tensors["covariance"], record.count)


def _write(cache: Folder, key: str, statistics: Statistics, classes: tuple[str, ...]) -> None:
    content = save({"mean": statistics.mean, "covariance": statistics.covariance})
    record = _Record(classes=classes, count=statistics.count, sha256=hashlib.sha256(content).hexdigest())
    cache.write(f"{key}.safetensors", content)
    cache.write(f"{key}.json", (record.model_dump_json(indent=1) + "\n").encode())
