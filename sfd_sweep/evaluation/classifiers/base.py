"""The interface of classifiers, whatever network is inside."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from difflib import get_close_matches

from torch import Tensor, nn

from sfd_sweep.errors import UserError

GRAY, RGB = 1, 3
ADVICE = "train one on the teacher's classes: sfd-sweep train-classifier"


class Classifier(nn.Module, ABC):
    """A classifier on whose features distances are measured.

    It takes images in [-1, 1] and brings them to its network's size and scale itself.

    Attributes:
        class_names: by index.
        channels: of the images that it takes; None where it takes gray and RGB ones.
        image_size: height and width of the images that it takes; None where it resizes them.
        name: for messages.
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
        self._content_hash = ""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return features of shape (n, d) of images of shape (n, C, H, W) in [-1, 1]."""

    @abstractmethod
    def logits_from_features(self, features: Tensor) -> Tensor:
        """Return logits of shape (n, classes) from features of shape (n, d)."""

    @abstractmethod
    def description(self) -> str:
        """Return everything beside the weights that its outputs depend on."""

    def parts_found(self, features: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Return whether each of its `parts` is in images of such features, bool of shape (n,), by name."""
        return {}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (n, classes) of images of shape (n, C, H, W) in [-1, 1]."""
        return self.logits_from_features(self.features(images))

    def content_hash(self) -> str:
        """Return a hash of description and weights; the weights are read once, and must not change afterwards."""
        if not self._content_hash:
            content = hashlib.sha256(self.description().encode())
            for name, weight in self.state_dict().items():
                content.update(name.encode() + weight.cpu().numpy().tobytes())
            self._content_hash = content.hexdigest()
        return self._content_hash

    def check_images(self, class_names: Sequence[str], image_shape: tuple[int, int, int]) -> None:
        """Raise a UserError unless it takes images of shape (C, H, W) and has such classes, in any order."""
        self._check_classes(class_names)
        self.check_shape(image_shape)

    def check_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raise a UserError unless it takes images of shape (C, H, W)."""
        channels, height, width = image_shape
        known = (GRAY, RGB) if self.channels is None else (self.channels,)
        if channels not in known:
            wanted = " or ".join(map(str, known))
            raise UserError(f"{self.name} takes images of {wanted} channels, not of {channels}; {ADVICE}")
        if self.image_size not in (None, height) or self.image_size not in (None, width):
            size = f"{self.image_size}×{self.image_size}"
            raise UserError(f"{self.name} takes images of {size} pixels, not of {height}×{width}; {ADVICE}")

    def for_classes(self, class_names: Sequence[str]) -> Classifier:
        """Return the same classifier with its logits in the order of the given classes.

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
                nearest = get_close_matches(name, self.class_names, n=1, cutoff=0.5)
                hint = f" (the nearest is {nearest[0]!r})" if nearest else ""
                raise UserError(f"{self.name} knows no class {name!r}{hint}; {ADVICE}")
        for name in wanted:
            if wanted.count(name) > 1:
                raise UserError(f"the class {name!r} is there twice, so it is ambiguous; rename one")


class Reordered(Classifier):
    """A classifier with its classes in another order."""

    def __init__(self, classifier: Classifier, class_names: Sequence[str]) -> None:
        super().__init__(class_names, channels=classifier.channels, image_size=classifier.image_size)
        self.name = classifier.name
        self.classifier = classifier
        self.measures_distances = classifier.measures_distances
        self._order = [classifier.class_names.index(name) for name in class_names]

    def features(self, images: Tensor) -> Tensor:
        """Return the features of the classifier."""
        return self.classifier.features(images)

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Return the logits of the classifier in the wanted order."""
        return self.classifier.logits_from_features(features)[:, self._order]

    def description(self) -> str:
        """Return the classifier's description, and the order."""
        return f"{self.classifier.description()} in the order {self._order}"
