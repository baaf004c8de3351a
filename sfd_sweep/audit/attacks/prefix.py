"""A prefix of a few tokens before a forgotten prompt, searched for through the generator.

Zhang et al., "To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy To Generate Unsafe Images …
For Now" (UnlearnDiffAtk, ECCV 2024), with one pass through the generator and the attacker's classifier in place of the
loss of denoising. Tokens are projected as by Wen et al., "Hard Prompts Made Easy" (NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point, stream
from sfd_sweep.audit.attacks.prompts import NO_PROMPTS, encoder_of
from sfd_sweep.audit.token_search import allowed_tokens, random_tokens
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import PROMPTS
from sfd_sweep.models.families.stable_diffusion import FREE_TOKENS, Prompts, TextEncoder


@dataclass(frozen=True)
class PrefixSearch(Attack):
    """Adam on the embeddings of a prefix, each step at the nearest tokens of the vocabulary.

    A restart has one of the forgotten prompts, and random tokens before it: the control, at a budget of 0. A point is
    that of the tokens which the attacker's classifier has found the most telling in all restarts so far.

    Attributes:
        restarts: random prefixes to start from.
        tokens: of a prefix.
        budgets: steps after which the judge looks, increasing.
        batch_size: samples of a step, on the same noise in all steps.
        lr: of Adam, in units of the spread of the vocabulary's embeddings. That of CLIP ViT-L/14 is about 0.014, and
            the paper's rate is 0.01.
    """

    unit = "updates of the prefix"
    description = "A few tokens before a forgotten prompt are optimized through the generator (UnlearnDiffAtk)."
    name = "prefix search"

    restarts: int = 2
    tokens: int = FREE_TOKENS
    budgets: tuple[int, ...] = (0, 10, 20, 40)
    batch_size: int = 32
    lr: float = 0.7

    def needs(self, context: AttackContext) -> str | None:
        return None if context.kind is PROMPTS else NO_PROMPTS

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        random = stream(context, seed, self.name)
        encoder = encoder_of(generator)
        first = int(torch.randint(len(context.conditions.forget), (), generator=random, device=random.device))
        asked = context.forgotten(first + self.restarts)[first:].tolist()
        runs = [list(self._restart(generator, encoder, context, index, random)) for index in asked]
        for budget, found in zip(self.budgets, zip(*runs, strict=True), strict=True):
            _, ids = max(found, key=lambda pair: pair[0])
            prompts = Prompts.of_tokens(encoder, ids, context.device)
            attacked = OneStepGenerator(generator.model.with_conditioning(prompts), generator.t_init)
            c = torch.zeros(context.samples, dtype=torch.int64, device=context.device)
            yield context.point(budget, attacked, c)

    def _restart(
        self,
        generator: OneStepGenerator,
        encoder: TextEncoder,
        context: AttackContext,
        index: int,
        random: torch.Generator,
    ) -> Iterator[tuple[float, Tensor]]:
        """Yield the most telling prompt so far at each budget, (1, tokens), after how telling it is."""
        encoder.model.to(context.device)
        allowed = allowed_tokens(encoder)
        vocabulary = _Vocabulary(encoder.vocabulary, allowed.to(context.device))
        words = torch.tensor(encoder.words(context.conditions.names[index]), dtype=torch.int64)
        prefix = random_tokens(allowed, (min(self.tokens, encoder.room),), random)
        z = torch.randn(self.batch_size, *generator.model.sample_shape, generator=random, device=random.device)
        free = vocabulary.offsets(prefix.to(context.device)).requires_grad_(True)
        adam = torch.optim.Adam([free], lr=self.lr)
        best: tuple[float, Tensor] | None = None
        for step in range(self.budgets[-1] + 1):
            prefix = vocabulary.nearest(free.detach())
            ids = encoder.framed(torch.cat([prefix.cpu(), words])[: encoder.room][None])
            tokens = encoder.vocabulary[prefix].detach()[None].requires_grad_(True)
            telling = self._telling(generator, encoder, context, ids, tokens, z)
            value = float(telling.detach().nan_to_num(nan=-torch.inf))
            best = (value, ids) if best is None or value > best[0] else best
            if step in self.budgets:
                yield best
            if step < self.budgets[-1]:
                (gradient,) = torch.autograd.grad(-telling, tokens)
                free.grad = (gradient[0] * vocabulary.spread).nan_to_num()
                adam.step()

    def _telling(
        self,
        generator: OneStepGenerator,
        encoder: TextEncoder,
        context: AttackContext,
        ids: Tensor,
        tokens: Tensor,
        z: Tensor,
    ) -> Tensor:
        """Return the mean log-probability of what is forgotten, with gradients of the tokens' embeddings."""
        prompt = Prompts(encoder, ("a prefix and a prompt",), encoder.embed_with(ids, tokens))
        model = generator.model.with_conditioning(prompt)
        images = OneStepGenerator(model, generator.t_init)(z, torch.zeros(len(z), dtype=torch.int64, device=z.device))
        return context.telling(model.decode(images)).mean()


class _Vocabulary:
    """Embeddings of tokens in units of their spread.

    Args:
        embeddings: of all tokens, (vocabulary, width).
        allowed: tokens to choose from, bool of shape (vocabulary,).
    """

    def __init__(self, embeddings: Tensor, allowed: Tensor) -> None:
        self.spread, mean = torch.std_mean(embeddings, 0)
        self._offsets = (embeddings - mean) / self.spread
        self._allowed = allowed

    def offsets(self, ids: Tensor) -> Tensor:
        """Return the offsets of tokens, (k,), from the mean, (k, width)."""
        return self._offsets[ids]

    def nearest(self, offsets: Tensor) -> Tensor:
        """Return the nearest allowed tokens of offsets (k, width), (k,)."""
        distances = torch.cdist(offsets, self._offsets)
        distances[:, ~self._allowed] = torch.inf
        return distances.argmin(1)
