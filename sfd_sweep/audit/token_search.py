"""Search for tokens whose embedding by a text encoder suits a target. No generator takes part."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.models.families.stable_diffusion import TextEncoder

LEAST_PART = 3
"""Letters of a word from which on tokens that contain it are forbidden, and not only those that are it."""


@dataclass(frozen=True)
class TokenSearch:
    """Greedy coordinate gradient (Zou et al., "Universal and Transferable Adversarial Attacks on Aligned Language
    Models", 2023): a step tries single replacements of tokens that the gradient suggests, and keeps the best one.

    Attributes:
        steps: of the search.
        candidates: prompts that are tried in a step.
        suggestions: tokens that the gradient suggests for each place.
    """

    steps: int = 60
    candidates: int = 64
    suggestions: int = 32

    def run(
        self,
        encoder: TextEncoder,
        start: Tensor,
        loss: Callable[[Tensor], Tensor],
        *,
        allowed: Tensor,
        accepts: Callable[[Tensor], bool] = lambda _ids: True,
        random: torch.Generator,
    ) -> Tensor:
        """Return tokens, int64 of shape (k,), on the CPU.

        Args:
            encoder: the text encoder.
            start: tokens to start from, (k,).
            loss: of embeddings (n, tokens, width), (n,).
            allowed: tokens that may be used, bool of shape (vocabulary,).
            accepts: whether a prompt of such tokens is allowed.
            random: of the replacements; on the device of the search.
        """
        ids, device = start.cpu(), random.device
        best = float(loss(encoder.embed_ids(encoder.framed(ids[None]), device)))
        for _ in range(self.steps):
            tried = self._replaced(ids, self._suggested(encoder, ids, loss, allowed, device), random)
            losses = loss(encoder.embed_ids(encoder.framed(tried), device))
            for row in losses.argsort().tolist():
                if not losses[row] < best:
                    break
                if accepts(tried[row]):
                    ids, best = tried[row], float(losses[row])
                    break
        return ids

    def _suggested(
        self,
        encoder: TextEncoder,
        ids: Tensor,
        loss: Callable[[Tensor], Tensor],
        allowed: Tensor,
        device: torch.device,
    ) -> Tensor:
        """Return the tokens for each place that lower the loss the most to first order, (k, suggestions)."""
        encoder.model.to(device)
        tokens = encoder.vocabulary[ids.to(device)][None].detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(encoder.embed_with(encoder.framed(ids[None]), tokens)).sum(), tokens)
        change = gradient[0] @ encoder.vocabulary.T
        change[:, ~allowed.to(device)] = torch.inf
        return change.argsort(dim=1, stable=True)[:, : min(self.suggestions, int(allowed.sum()))].cpu()

    def _replaced(self, ids: Tensor, suggested: Tensor, random: torch.Generator) -> Tensor:
        shape = (self.candidates,)
        places = torch.randint(len(ids), shape, generator=random, device=random.device).cpu()
        choices = torch.randint(suggested.shape[1], shape, generator=random, device=random.device).cpu()
        tried = ids.repeat(self.candidates, 1)
        tried[torch.arange(self.candidates), places] = suggested[places, choices]
        return tried


def allowed_tokens(encoder: TextEncoder, forbidden: Collection[str] = ()) -> Tensor:
    """Return which tokens a prompt may have, bool of shape (vocabulary,): no special ones, and none of some words.

    Args:
        encoder: whose tokens they are.
        forbidden: words; tokens that they are made of, and tokens that contain one of them, are not allowed.
    """
    tokenizer = encoder.tokenizer
    allowed = torch.ones(len(encoder.vocabulary), dtype=torch.bool)
    allowed[tokenizer.all_special_ids] = False
    words = {word for text in forbidden for word in text.casefold().split()}
    own = {index for word in (*forbidden, *words) for index in encoder.words(word)}
    vocabulary = tokenizer.get_vocab()
    spelled = {token.casefold() for token, index in vocabulary.items() if index in own}
    for token, index in vocabulary.items():
        text = token.removesuffix("</w>").casefold()
        is_word = any(text == word or (len(word) >= LEAST_PART and word in text) for word in words)
        if is_word or token.casefold() in spelled:
            allowed[index] = False
    return allowed


def random_tokens(allowed: Tensor, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Return allowed tokens of a shape, drawn uniformly, int64 on the CPU."""
    (possible,) = allowed.nonzero(as_tuple=True)
    return possible[torch.randint(len(possible), shape, generator=random, device=random.device).cpu()]
