"""CLIPScore (Hessel et al., 2021): how well images go with their prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.clip_network import load_clip


class ClipScore(nn.Module):
    """Scores images by their prompts: max(cosine of their embeddings, 0), in [0, 1].

    Hessel et al. multiply by 2.5, which is left out here. A prompt that is longer than CLIP reads is cut as in CLIP's
    own evaluation (see `ClipNetwork.embed_texts`).

    Args:
        source: FOLDER or OWNER/NAME of CLIP, with or without `clip:` before it.
        prompts: embedded once; images name theirs by index.

    Raises:
        UserError: there is no such CLIP, or no prompt.
    """

    text_embeddings: Tensor

    def __init__(self, source: str, prompts: Sequence[str]) -> None:
        super().__init__()
        if not prompts:
            raise UserError("a CLIP score is of images and their prompts, and there is no prompt; give some")
        network = load_clip(source.removeprefix("clip:"))
        self.encoder = network.encoder
        self.register_buffer("text_embeddings", network.embed_texts(prompts))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def scores(self, images: Tensor, c: Tensor) -> Tensor:
        """The score of each image, (n,).

        Args:
            images: (n, C, H, W) in [-1, 1], grey or RGB.
            c: (n,), int64, the indices of their prompts.
        """
        embeddings: Tensor = self.encoder(images)
        return (embeddings * self.text_embeddings[c]).sum(1).clamp(0, 1)
