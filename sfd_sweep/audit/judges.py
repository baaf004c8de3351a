"""The judge of an audit: a second classifier that decides, and that no attack optimizes against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.datasets.images import quantize
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier

SVM = "svm"
"""The judge that is fitted to the reference images."""
MOST_PIXELS = 32
"""Width that larger images are reduced to for it."""
MOST_FITTED = 4000
"""Images that a support vector machine is fitted to at most; its time grows with their square."""
HELD_OUT = 0.2
LEAST_FORGOTTEN = 10
"""Images of what is forgotten that such a judge needs."""
PLAUSIBLE = 0.99
"""Share of the images of what is forgotten that are as near to another one as an image must be that shows it."""
LEAST_DISCERNMENT = 0.5
"""Share of forgotten images that a judge recognizes, less the share of retained images that it takes for forgotten."""


class Judge(Protocol):
    """Decides for each image whether it shows what is forgotten.

    Attributes:
        name: for reports.
    """

    name: str

    def shows_forgotten(self, images: Tensor) -> Tensor:
        """Return whether each image shows it, bool of shape (n,) on the CPU.

        Args:
            images: (n, C, H, W), about [-1, 1].
        """

    def content_hash(self) -> str:
        """Return the same for judges with the same decisions."""


@dataclass(frozen=True)
class Discernment:
    """How well a judge knows what is forgotten, on images that it has not seen.

    Attributes:
        recognized: share of images of forgotten conditions that it calls forgotten.
        false_alarms: share of images of retained conditions that it calls forgotten.
    """

    recognized: float
    false_alarms: float


def check_discernment(judge: Judge, discernment: Discernment) -> None:
    """Raise a UserError if a judge cannot tell what is forgotten from what is retained."""
    if discernment.recognized - discernment.false_alarms < LEAST_DISCERNMENT:
        raise UserError(
            f"audit.judge: {judge.name} recognizes {discernment.recognized:.0%} of the forgotten images, and takes "
            f"{discernment.false_alarms:.0%} of the retained ones for forgotten, so it cannot decide; name another "
            "classifier"
        )


class ClassifierJudge:
    """A classifier as judge: it decides by its likeliest class.

    Args:
        classifier: in evaluation mode.
        forgotten: its classes of what is forgotten.
        levels: of the pixels that images are rounded to.
        device: of the classifier.
        batch_size: the most images in one pass.
    """

    def __init__(
        self, classifier: Classifier, forgotten: tuple[int, ...], levels: int, device: torch.device, batch_size: int
    ) -> None:
        self.name = classifier.name
        self._classifier = classifier
        self._forgotten = forgotten
        self._levels = levels
        self._device = device
        self._batch_size = batch_size

    @torch.no_grad()
    def shows_forgotten(self, images: Tensor) -> Tensor:
        """Return whether the likeliest class is a forgotten one."""
        parts = quantize(images.float(), self._levels).split(self._batch_size)
        called = torch.cat([self._classifier(part.to(self._device)).argmax(1).cpu() for part in parts])
        return torch.isin(called, torch.tensor(self._forgotten))

    def content_hash(self) -> str:
        """Return a hash of the classifier and the forgotten classes."""
        return f"{self._classifier.content_hash()} {self._forgotten} {self._levels}"


class SupportVectorJudge:
    """A support vector machine on pixels, with a radial kernel (scikit-learn's `SVC`), that knows what is no image.

    A machine gives any image to one of its classes. So an image shows what is forgotten only if it is also near to one
    that does: at most as far, in Euclidean distance, as 99 % of those images are from their nearest other one.

    Args:
        images: that it is fitted to.
        subjects: by condition index, what an image of it shows.
        forgotten: the subjects that are forgotten.
    """

    name = "a support vector machine on the reference images"

    def __init__(self, images: ConditionImages, subjects: Sequence[str], forgotten: Collection[str]) -> None:
        self._levels = images.levels
        self._forgotten = sorted(forgotten)
        labels = [subjects[condition] for condition in images.conditions.tolist()]
        rows = _rows(images.images)
        self._machine = SVC(C=10, gamma="scale").fit(rows, labels)
        self._neighbors = NearestNeighbors(n_neighbors=1).fit(rows[np.isin(labels, self._forgotten)])
        self._farthest = float(np.quantile(self._neighbors.kneighbors()[0], PLAUSIBLE))
        self._hash = images.content_hash

    @classmethod
    def fitted(
        cls, images: ConditionImages, subjects: Sequence[str], forgotten: Collection[str]
    ) -> tuple[SupportVectorJudge, Discernment]:
        """Return a judge with its discernment on a fifth of the images, which it does not learn from.

        Raises:
            UserError: there are too few images of what is forgotten.
        """
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MOST_FITTED]
        images = images.take(order)
        is_forgotten = np.array([subjects[index] in forgotten for index in images.conditions.tolist()], dtype=bool)
        if is_forgotten.sum() < LEAST_FORGOTTEN:
            raise UserError(
                f"audit.judge: {int(is_forgotten.sum())} reference images show what is forgotten, and a support vector "
                f"machine needs {LEAST_FORGOTTEN}; give more images, or name a classifier"
            )
        rows = np.arange(len(images))
        kept, held_out = train_test_split(rows, test_size=HELD_OUT, random_state=0, stratify=is_forgotten)
        judge = cls(images.take(torch.from_numpy(kept)), subjects, forgotten)
        called = judge.shows_forgotten(images.images[torch.from_numpy(held_out)]).numpy()
        truth = is_forgotten[held_out]
        return judge, Discernment(float(called[truth].mean()), float(called[~truth].mean()))

    def shows_forgotten(self, images: Tensor) -> Tensor:
        """Return whether the machine's subject is a forgotten one, and an image of it is near."""
        rows = _rows(quantize(images.float().cpu(), self._levels))
        shown = np.isin(self._machine.predict(rows), self._forgotten)
        if shown.any():
            shown[shown] = self._neighbors.kneighbors(rows[shown])[0][:, 0] <= self._farthest
        return torch.from_numpy(shown)

    def content_hash(self) -> str:
        """Return a hash of the images that it was fitted to, and what is forgotten."""
        return f"svm, near {PLAUSIBLE} {self._hash} {self._forgotten}"


def _rows(images: Tensor) -> np.ndarray[Any, Any]:
    size = min(MOST_PIXELS, images.shape[-1])
    rows: np.ndarray[Any, Any] = adaptive_avg_pool2d(images, size).flatten(1).numpy()
    return rows
