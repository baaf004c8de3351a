"""CLIP as a zero-shot classifier: an image's class is the text that it is nearest to."""

from __future__ import annotations

import json
from collections.abc import Sequence

from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.clip_network import load_clip

CAPTION = "a photo of {}"
"""What a concept's text is put into: captions, not single words, are what CLIP was trained on (Radford et al., 2021,
section 3.1.4). Their "a photo of a {label}." has an article, which a concept such as "Van Gogh" lacks."""


class ClipClassifier(Classifier):
    """Tells images apart by concepts that are given as texts. Images are grey or RGB, and of any size.

    Its features are CLIP's embeddings of images, of length 1; its logits are their cosines with the embeddings of the
    concepts' captions, times CLIP's scale.

    Args:
        source: FOLDER or OWNER/NAME of CLIP (see `load_clip`).
        concepts: at least two different texts; they are the classes' names.

    Raises:
        UserError: there is no such CLIP, or the concepts are no classes.
    """

    text_embeddings: Tensor
    scale: Tensor

    def __init__(self, source: str, concepts: Sequence[str]) -> None:
        _check_concepts(source, concepts)
        super().__init__(concepts, channels=None)
        network = load_clip(source)
        self.encoder = network.encoder
        self._recipe = network.recipe
        self.register_buffer("text_embeddings", network.embed_texts([CAPTION.format(text) for text in concepts]))
        self.register_buffer("scale", network.scale)

    def features(self, images: Tensor) -> Tensor:
        """Embeddings of length 1, (n, d), of images of shape (n, C, H, W) in [-1, 1]."""
        embeddings: Tensor = self.encoder(images)
        return embeddings

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Logits of shape (n, classes) from features of shape (n, d)."""
        return self.scale * features @ self.text_embeddings.T

    def description(self) -> str:
        """The recipe, the caption and the concepts."""
        return json.dumps([self._recipe, CAPTION, self.class_names], sort_keys=True)


def _check_concepts(source: str, concepts: Sequence[str]) -> None:
    if not concepts:
        raise UserError(f"clip:{source} tells images apart by texts, and none is given; name the concepts")
    for concept in concepts:
        if not concept.strip():
            raise UserError(f"clip:{source}: a concept is an empty text; write what is to be seen")
        if list(concepts).count(concept) > 1:
            raise UserError(f"clip:{source}: the concept {concept!r} is there twice; name each once")
    if len(concepts) == 1:
        raise UserError(
            f"clip:{source} calls every image by one of its concepts, and {concepts[0]!r} is the only one; name "
            "another that images without it show"
        )
