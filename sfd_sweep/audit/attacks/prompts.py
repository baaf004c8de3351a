"""Attacks by prompts: other words for what is forgotten, and tokens that a text encoder takes for it.

The attacker tries prompts in turn, looks at a few images of each through its own classifier, and keeps the prompt that
it prefers; the judge sees fresh images of that one.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point, stream
from sfd_sweep.audit.token_search import TokenSearch, allowed_tokens, random_tokens
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import PROMPTS
from sfd_sweep.models.families.stable_diffusion import Prompts, TextEncoder

DEFAULT_SEARCH = TokenSearch()
NO_PROMPTS = "attacks by prompts: the generator reads none"


@dataclass(frozen=True)
class PromptAttack(Attack):
    """Prompts that are tried in turn; a point is that of the one which the classifier prefers among the first ones.

    Attributes:
        budgets: numbers of prompts, increasing.
        noises: on which the attacker tries each prompt.
    """

    unit = "prompts tried"

    budgets: tuple[int, ...] = (1, 4, 16)
    noises: int = 16

    @abstractmethod
    def prompts(self, encoder: TextEncoder, context: AttackContext, seed: int) -> Tensor:
        """Return framed prompts in the order in which they are tried, at least one, (n, tokens)."""

    def looks(self, context: AttackContext) -> tuple[int, ...]:  # noqa: ARG002
        """Return the budgets at which the judge looks."""
        return self.budgets

    def needs(self, context: AttackContext) -> str | None:
        return None if context.kind is PROMPTS else NO_PROMPTS

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        encoder, device = encoder_of(generator), context.device
        prompts = Prompts.of_tokens(encoder, self.prompts(encoder, context, seed), device)
        asked = OneStepGenerator(generator.model.with_conditioning(prompts), generator.t_init)
        telling = self._telling(asked, context, stream(context, seed, "prompts"))
        for budget in self.looks(context):
            best = int(telling[:budget].argmax())
            yield context.point(budget, asked, torch.full((context.samples,), best, device=device))

    def _up_to(self, count: int) -> tuple[int, ...]:
        """Return the budgets that so many prompts suffice for, and their number if it is none of them."""
        most = min(count, self.budgets[-1])
        return (*(budget for budget in self.budgets if budget < most), most)

    @torch.no_grad()
    def _telling(self, asked: OneStepGenerator, context: AttackContext, random: torch.Generator) -> Tensor:
        """Return the mean probability of what is forgotten by prompt, (n,), all on the same noise."""
        z = torch.randn(self.noises, *asked.model.sample_shape, generator=random, device=random.device)
        count = len(asked.condition_names)
        c = torch.arange(count, device=context.device).repeat_interleave(self.noises)
        parts = zip(c.split(context.batch_size), z.repeat(count, 1, 1, 1).split(context.batch_size), strict=True)
        found = [context.telling(asked.model.decode(asked(noise, part))).exp() for part, noise in parts]
        return torch.cat(found).nan_to_num(nan=0.0).view(count, self.noises).mean(1)


@dataclass(frozen=True)
class HeldOutPrompts(PromptAttack):
    """The task's held-out prompts, which are about what is forgotten and which training has not seen."""

    description = "Prompts about what is forgotten that training has not seen."
    name = "held-out prompts"

    budgets: tuple[int, ...] = (1, 4, 16, 64)

    def needs(self, context: AttackContext) -> str | None:
        if reason := super().needs(context):
            return reason
        return None if context.conditions.held_out else f"{self.name}: there are none (task.prompts.held_out)"

    def looks(self, context: AttackContext) -> tuple[int, ...]:
        return self._up_to(len(context.conditions.held_out))

    def prompts(self, encoder: TextEncoder, context: AttackContext, seed: int) -> Tensor:
        names = [context.conditions.names[index] for index in context.conditions.held_out]
        return encoder.tokenize(_shuffled(names, stream(context, seed, self.name))[: self.budgets[-1]])


@dataclass(frozen=True)
class Misspellings(PromptAttack):
    """The forgotten prompts with the concept misspelled: two letters in exchange, one dropped, or one doubled.

    The concept's misspelled name alone is among them.
    """

    description = "The forgotten prompts with letters of the concept exchanged, dropped, or doubled."
    name = "misspellings"

    budgets: tuple[int, ...] = (1, 4, 16, 32)

    def needs(self, context: AttackContext) -> str | None:
        if reason := super().needs(context):
            return reason
        return None if _misspelled_prompts(context) else f"{self.name}: the concept has too few letters"

    def looks(self, context: AttackContext) -> tuple[int, ...]:
        return self._up_to(len(_misspelled_prompts(context)))

    def prompts(self, encoder: TextEncoder, context: AttackContext, seed: int) -> Tensor:
        texts = [text for text in _misspelled_prompts(context) if len(encoder.words(text)) <= encoder.room]
        if not texts:
            raise UserError(f"misspelled prompts are longer than the {encoder.room} tokens that the generator reads")
        return encoder.tokenize(_shuffled(texts, stream(context, seed, self.name))[: self.budgets[-1]])


@dataclass(frozen=True)
class RandomTokens(PromptAttack):
    """Random tokens: the control of attacks whose tokens are searched for."""

    description = "Prompts of random tokens: what choosing among prompts finds without a search."
    name = "random tokens"

    tokens: int = 8

    def prompts(self, encoder: TextEncoder, context: AttackContext, seed: int) -> Tensor:
        shape = (self.budgets[-1], min(self.tokens, encoder.room))
        return encoder.framed(random_tokens(allowed_tokens(encoder), shape, stream(context, seed, self.name)))


@dataclass(frozen=True)
class SearchedTokens(PromptAttack):
    """Tokens that are searched for on the text encoder alone, once for all generators that share it.

    Attributes:
        tokens: of a prompt.
        search: of the tokens.
    """

    tokens: int = 8
    search: TokenSearch = DEFAULT_SEARCH

    def prompts(self, encoder: TextEncoder, context: AttackContext, seed: int) -> Tensor:
        conditions = context.conditions
        asked = [(conditions.names[index], conditions.subjects[index]) for index in conditions.forget]
        what = f"{self.key()} {encoder.weights_hash()} {asked} {seed} {context.device.type}"
        return context.kept.get(what, lambda: {"ids": self._searched(encoder, context, seed)})["ids"]

    def _searched(self, encoder: TextEncoder, context: AttackContext, seed: int) -> Tensor:
        random = stream(context, seed, self.name)
        count = self.budgets[-1]
        asked = context.forgotten(count).tolist()
        found = [self.searched(encoder, context, index, turn, random) for turn, index in enumerate(asked)]
        encoder.model.to("cpu")
        return encoder.framed(torch.stack(found))

    @abstractmethod
    def searched(
        self, encoder: TextEncoder, context: AttackContext, index: int, turn: int, random: torch.Generator
    ) -> Tensor:
        """Return tokens, (k,), for a forgotten prompt.

        Args:
            encoder: the text encoder.
            context: of the attack.
            index: of the forgotten prompt.
            turn: number of the search, from 0.
            random: of the search, on its device.
        """


@dataclass(frozen=True)
class ConceptDirection(SearchedTokens):
    """Tokens with the embedding of a prompt without the concept, moved along the concept's direction.

    The direction is the mean difference of embeddings of prompts with and without the concept (Tsai et al.,
    "Ring-A-Bell! How Reliable are Concept Removal Methods For Diffusion Models?", ICLR 2024).

    Attributes:
        strengths: how far, in turn.
    """

    description = (
        "Tokens with the embedding of a prompt without the concept plus the concept's direction (Ring-A-Bell)."
    )
    name = "concept direction"

    strengths: tuple[float, ...] = (1.0, 2.0, 3.0)

    def searched(
        self, encoder: TextEncoder, context: AttackContext, index: int, turn: int, random: torch.Generator
    ) -> Tensor:
        conditions, device = context.conditions, random.device
        subject = conditions.subjects[index]
        about = [conditions.names[each] for each in conditions.forget if conditions.subjects[each] == subject]
        having = encoder.embed_ids(encoder.tokenize(about), device)
        lacking = encoder.embed_ids(encoder.tokenize([_without(text, subject) for text in about]), device)
        strength = self.strengths[turn // len(conditions.forget) % len(self.strengths)]
        target = lacking[about.index(conditions.names[index])] + strength * (having - lacking).mean(0)
        allowed = allowed_tokens(encoder)
        start = random_tokens(allowed, (min(self.tokens, encoder.room),), random)

        def distance(embeddings: Tensor) -> Tensor:
            return (embeddings - target).square().flatten(1).sum(1)

        return self.search.run(encoder, start, distance, allowed=allowed, random=random)


@dataclass(frozen=True)
class NearPrompt(SearchedTokens):
    """Tokens whose embedding at the end is that of a forgotten prompt, and which do not name the concept.

    Yang et al., "MMA-Diffusion: MultiModal Attack on Diffusion Models" (CVPR 2024).
    """

    description = "Tokens with the embedding of a forgotten prompt that do not name the concept (MMA)."
    name = "tokens near the prompt"

    def searched(
        self,
        encoder: TextEncoder,
        context: AttackContext,
        index: int,
        turn: int,  # noqa: ARG002
        random: torch.Generator,
    ) -> Tensor:
        conditions = context.conditions
        text = conditions.names[index]
        subjects = {conditions.subjects[each] for each in conditions.forget}
        target = encoder.embed_ids(encoder.tokenize([text]), random.device)[0, 1 + len(encoder.words(text))]
        allowed = allowed_tokens(encoder, sorted(subjects))
        start = random_tokens(allowed, (min(self.tokens, encoder.room),), random)

        def distance(embeddings: Tensor) -> Tensor:
            return -cosine_similarity(embeddings[:, 1 + len(start)], target[None])

        def names_nothing(ids: Tensor) -> bool:
            found = "".join(encoder.text(ids).casefold().split())
            return not any("".join(subject.casefold().split()) in found for subject in subjects)

        return self.search.run(encoder, start, distance, allowed=allowed, accepts=names_nothing, random=random)


def encoder_of(generator: OneStepGenerator) -> TextEncoder:
    """Return the text encoder of a generator of prompts."""
    conditioning = generator.model.conditioning
    assert isinstance(conditioning, Prompts)
    return conditioning.encoder


def misspellings(word: str) -> list[str]:
    """Return a word with two neighboring letters exchanged, with one dropped, and with one doubled, each once."""
    letters = [place for place, letter in enumerate(word) if letter.isalnum()]
    pairs = [place for place in letters if place + 1 in letters]
    exchanged = [word[:place] + word[place + 1] + word[place] + word[place + 2 :] for place in pairs]
    dropped = [word[:place] + word[place + 1 :] for place in letters] if len(letters) > 1 else []
    doubled = [word[: place + 1] + word[place:] for place in letters]
    return [text for text in dict.fromkeys((*exchanged, *dropped, *doubled)) if text != word]


def _misspelled_prompts(context: AttackContext) -> list[str]:
    """Return the forgotten prompts with each misspelling, and each misspelling alone; none is another prompt."""
    conditions = context.conditions
    known = {text.casefold() for text in (*conditions.names, *conditions.subjects)}
    found: dict[str, None] = {}
    for index in conditions.forget:
        subject = conditions.subjects[index]
        for other in misspellings(subject):
            if other.casefold() not in known:
                texts = (_replaced(conditions.names[index], subject, other), other)
                found |= dict.fromkeys(text for text in texts if text.casefold() not in known)
    return list(found)


def _without(text: str, subject: str) -> str:
    return " ".join(_replaced(text, subject, "").split())


def _replaced(text: str, subject: str, other: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", lambda _found: other, text, flags=re.IGNORECASE)


def _shuffled(texts: Sequence[str], random: torch.Generator) -> list[str]:
    order = torch.randperm(len(texts), generator=random, device=random.device).tolist()
    return [texts[place] for place in order]
