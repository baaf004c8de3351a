"""Tokens that a text encoder takes for a target."""

import itertools

import pytest
import torch
from prompt_generators import text_encoder

from sfd_sweep.audit.token_search import TokenSearch, allowed_tokens, random_tokens

SEARCH = TokenSearch(steps=12, candidates=24, suggestions=8)


@pytest.fixture(name="encoder", scope="module")
def _encoder():
    return text_encoder()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def distance_to(encoder, text):
    target = encoder([text], "cpu")

    def distance(embeddings):
        return (embeddings - target).square().flatten(1).sum(1)

    return distance


def test_given_embeddings_of_tokens_are_embedded_as_the_tokens_themselves(encoder):
    ids = encoder.framed(torch.tensor([encoder.words("ant"), encoder.words("bee")]))
    assert torch.equal(ids, encoder.tokenize(["ant", "bee"]))
    tokens = encoder.vocabulary[ids[:, 1:4]].detach().requires_grad_(True)
    embeddings = encoder.embed_with(ids, tokens)
    assert torch.allclose(embeddings, encoder(["ant", "bee"], "cpu"), atol=1e-6)
    (gradient,) = torch.autograd.grad(embeddings[0].sum(), tokens)
    assert gradient[0].abs().min() > 0
    assert gradient[1].abs().max() == 0  # another prompt's
    assert all(weight.grad is None for weight in encoder.model.parameters())


def test_the_search_comes_nearer_to_its_target_and_is_repeatable(encoder):
    distance, allowed = distance_to(encoder, "ant"), allowed_tokens(encoder)
    start = random_tokens(allowed, (3,), seeded())
    found = SEARCH.run(encoder, start, distance, allowed=allowed, random=seeded(1))
    before, after = distance(encoder.embed_ids(encoder.framed(torch.stack([start, found])), "cpu")).tolist()
    assert after < before / 2
    assert torch.equal(found, SEARCH.run(encoder, start, distance, allowed=allowed, random=seeded(1)))


def test_the_search_of_one_token_finds_the_best_of_the_vocabulary(encoder):
    distance, allowed = distance_to(encoder, "q"), allowed_tokens(encoder)
    search = TokenSearch(steps=8, candidates=200, suggestions=400)
    found = search.run(encoder, torch.tensor([3]), distance, allowed=allowed, random=seeded())
    (possible,) = allowed.nonzero(as_tuple=True)
    best = possible[distance(encoder.embed_ids(encoder.framed(possible[:, None]), "cpu")).argmin()]
    assert found.tolist() == [int(best)] == encoder.words("q")


def test_a_prompt_that_is_not_accepted_is_never_taken(encoder):
    distance, allowed = distance_to(encoder, "q"), allowed_tokens(encoder)
    wanted = encoder.words("q")
    found = TokenSearch(steps=8, candidates=200, suggestions=400).run(
        *(encoder, torch.tensor([3]), distance),
        allowed=allowed,
        accepts=lambda ids: ids.tolist() != wanted,
        random=seeded(),
    )
    assert found.tolist() not in ([3], wanted)


def test_special_tokens_and_those_of_forbidden_words_are_not_allowed(encoder):
    allowed, free = allowed_tokens(encoder, ["red ant"]), allowed_tokens(encoder)
    parts = ("r", "e", "d</w>", "a", "n", "t</w>")
    forbidden = {index for token, index in encoder.tokenizer.get_vocab().items() if token.casefold() in parts}
    assert forbidden >= set(itertools.chain(*map(encoder.words, ("red", "ant"))))
    assert not free[encoder.tokenizer.all_special_ids].any()
    assert {index for index in range(len(free)) if free[index] and not allowed[index]} == forbidden
    drawn = random_tokens(allowed, (2000,), seeded())
    assert set(drawn.tolist()) <= set(allowed.nonzero().flatten().tolist())
    assert len(set(drawn.tolist())) > 300
