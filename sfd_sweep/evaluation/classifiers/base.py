"""What every classifier that judges generators can do, whatever network is inside."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from difflib import get_close_matches

from torch import Tensor, nn

from sfd_sweep.errors import UserError

GREY, RGB = 1, 3
ADVICE = "train one on the teacher's classes: sfd-sweep train-classifier"


class Classifier(nn.Module, ABC):
    """What calls an image by its class, and whose features distances are measured on.

    It takes images in [-1, 1] and brings them to the size and the scale of its network itself.

    Attributes:
        class_names: by index.
        channels: colours of the images that it judges; None where it judges grey and RGB ones.
        image_size: height and width of the images that it judges; None where it resizes them.
        name: what messages call it.
        measures_distances: whether Fréchet distances on its features mean anything.
        parts: names of what it finds in images beside their class.
    """

    measures_distances: bool = True
    parts: tuple[str, ...] = ()

    def __init__(self, class_names: Sequence[str], *, channels: int | None, image_size: int | None = None) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.channels = channels
        self.image_size = image_size
        self.name = "the classifier"

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Features of shape (n, d) of images of shape (n, C, H, W) in [-1, 1]."""

    @abstractmethod
    def logits_from_features(self, features: Tensor) -> Tensor:
        """Logits of shape (n, classes) from features of shape (n, d)."""

    @abstractmethod
    def description(self) -> str:
        """What decides its judgement beside the weights."""

    def parts_found(self, features: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Whether each of its `parts` is in images of such features, bool of shape (n,), by name."""
        return {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, C, H, W) in [-1, 1]."""
        return self.logits_from_features(self.features(images))

    def content_hash(self) -> str:
        """A hash of description and weights: the same for classifiers that judge alike."""
        content = hashlib.sha256(self.description().encode())
        for name, weight in self.state_dict().items():
            content.update(name.encode() + weight.cpu().numpy().tobytes())
        return content.hexdigest()

    def check_images(self, class_names: Sequence[str], image_shape: tuple[int, int, int]) -> None:
        """Whether it can judge images of such classes, in any order, and of shape (C, H, W).

        Raises:
            UserError: it cannot.
        """
        self._check_classes(class_names)
        self.check_shape(image_shape)

    def check_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Whether it can judge images of shape (C, H, W).

        Raises:
            UserError: it cannot.
        """
        channels, height, width = image_shape
        known = (GREY, RGB) if self.channels is None else (self.channels,)
        if channels not in known:
            wanted = " or ".join(map(str, known))
            raise UserError(f"{self.name} judges images of {wanted} channels, not of {channels}; {ADVICE}")
        if self.image_size is not None and (height, width) != (self.image_size, self.image_size):
            raise UserError(
                f"{self.name} judges images of {self.image_size}×{self.image_size} pixels, not of {height}×{width}; "
                f"{ADVICE}"
            )

    def for_classes(self, class_names: Sequence[str]) -> Classifier:
        """The same classifier with its logits in the order of the given classes.

        Raises:
            UserError: it knows other classes.
        """
        self._check_classes(class_names)
        return self if self.class_names == tuple(class_names) else Reordered(self, class_names)

    def _check_classes(self, wanted: Sequence[str]) -> None:
        if len(wanted) != len(self.class_names):
            raise UserError(f"{self.name} knows {len(self.class_names)} classes, not {len(wanted)}; {ADVICE}")
        if tuple(wanted) == self.class_names:
            return
        for name in wanted:
            if name not in self.class_names:
                raise UserError(f"{self.name} knows no class {name!r}{_nearest(name, self.class_names)}; {ADVICE}")
        for name in wanted:
            if wanted.count(name) > 1:
                raise UserError(f"the class {name!r} is there twice, so it is not clear which is which; rename one")


class Reordered(Classifier):
    """A classifier with its classes in another order.

    Args:
        classifier: the classifier.
        class_names: its classes in the order that is wanted.
    """

    def __init__(self, classifier: Classifier, class_names: Sequence[str]) -> None:
        super().__init__(class_names, channels=classifier.channels, image_size=classifier.image_size)
        self.name = classifier.name
        self.classifier = classifier
        self.measures_distances = classifier.measures_distances
        self._order = [classifier.class_names.index(name) for name in class_names]

    def features(self, images: Tensor) -> Tensor:
        """The features of the classifier, (n, d)."""
        return self.classifier.features(images)

    def logits_from_features(self, features: Tensor) -> Tensor:
        """The logits of the classifier in the wanted order, (n, classes)."""
        return self.classifier.logits_from_features(features)[:, self._order]

    def description(self) -> str:
        """The classifier's, and the order."""
        return f"{self.classifier.description()} in the order {self._order}"


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (the nearest is {nearest[0]!r})" if nearest else ""
