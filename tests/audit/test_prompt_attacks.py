"""Attacks by prompts on generators that know a concept, hide it, or never knew it."""

from dataclasses import replace

import pytest
import torch
from prompt_generators import CONDITIONS, attack_context, knowing, text_encoder, with_swapped_prompts

from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.prefix import PrefixSearch
from sfd_sweep.audit.attacks.prompts import (
    ConceptDirection,
    HeldOutPrompts,
    Misspellings,
    NearPrompt,
    RandomTokens,
    misspellings,
)
from sfd_sweep.audit.kept import Kept
from sfd_sweep.audit.token_search import TokenSearch
from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import CLASSES
from sfd_sweep.storage.folder import Folder

SEARCH = TokenSearch(steps=6, candidates=12, suggestions=8)
ATTACKS = (
    HeldOutPrompts(),
    Misspellings(budgets=(1, 4)),
    RandomTokens(budgets=(1, 4)),
    ConceptDirection(budgets=(1, 4), search=SEARCH),
    NearPrompt(budgets=(1, 4), search=SEARCH),
    PrefixSearch(restarts=1, budgets=(0, 2), batch_size=4),
)


@pytest.fixture(name="knows", scope="module")
def _knows():
    return knowing(gain=10.0)


def shown(attack, generator, context=None, seed=0):
    return [point.shown / point.samples for point in attack.curve(generator, context or attack_context(), seed)]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_finds_what_swapped_prompts_hide_and_nothing_where_nothing_is_known(attack, knows):
    hidden, never = with_swapped_prompts(knows), knowing(gain=0.0)
    assert shown(Asking(), knows) == [1]
    assert shown(Asking(), hidden) == [0]
    assert shown(attack, hidden)[-1] == shown(attack, knows)[-1] == 1
    assert set(shown(attack, never)) == {0}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_equal_seeds_give_equal_curves_and_leave_the_generator_as_it_is(attack, knows):
    before, context = knows.content_hash(), attack_context()
    first, again = (list(attack.curve(knows, attack_context(), 3)) for _ in range(2))
    assert first == again
    assert [point.budget for point in first] == sorted({point.budget for point in first})
    assert {point.samples for point in first} == {context.samples}
    assert knows.content_hash() == before
    assert all(weight.grad is None for weight in knows.model.parameters())


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_classes_are_not_attacked_by_prompts(attack):
    assert attack.needs(attack_context()) is None
    assert attack.needs(attack_context(kind=CLASSES)) == "attacks by prompts: the generator reads none"


def test_held_out_prompts_are_tried_as_they_are(knows):
    encoder, context = knows.model.conditioning.encoder, attack_context()
    tried = HeldOutPrompts().prompts(encoder, context, 0)
    assert sorted(map(encoder.text, tried)) == ["big ant", "red ant"]
    assert HeldOutPrompts().looks(context) == (1, 2)
    without = attack_context(replace(CONDITIONS, held_out=()))
    assert "task.prompts.held_out" in HeldOutPrompts().needs(without)


def test_a_misspelling_is_one_slip_of_the_pen():
    assert misspellings("cat") == ["act", "cta", "at", "ct", "ca", "ccat", "caat", "catt"]
    assert misspellings("oo") == ["o", "ooo"]
    assert misspellings("a") == ["aa"]
    assert "brad ptit" in misspellings("brad pitt")
    assert not [text for text in misspellings("brad pitt") if text.count(" ") != 1]


def test_misspelled_prompts_are_no_prompts_of_the_task(knows):
    encoder, conditions = (
        knows.model.conditioning.encoder,
        replace(CONDITIONS, names=("ant", "an ant", "nat", *"abcde")),
    )
    tried = [encoder.text(row) for row in Misspellings(budgets=(99,)).prompts(encoder, attack_context(conditions), 0)]
    assert {"atn", "an atn", "antt"} <= set(tried)
    assert not {"nat", "an nat", "ant"} & set(tried)
    assert len(set(tried)) == len(tried)
    other = [encoder.text(row) for row in Misspellings(budgets=(5,)).prompts(encoder, attack_context(), 1)]
    assert len(other) == 5
    assert other != tried[:5]


def test_misspellings_that_the_encoder_cannot_read_are_left_out_or_refused(knows):
    encoder = knows.model.conditioning.encoder
    long = "an ant at a sea"  # 11 letters; 14 are read
    conditions = replace(CONDITIONS, names=(long, *CONDITIONS.names[1:]))
    assert Misspellings().prompts(encoder, attack_context(conditions), 0).shape[1] == encoder.room + 2
    word = "antsandbeesandowls"
    conditions = replace(CONDITIONS, names=(word, *CONDITIONS.names[1:]), subjects=(word,) * 8, forget=(0,))
    with pytest.raises(UserError, match="longer than the 14 tokens"):
        Misspellings().prompts(encoder, attack_context(conditions), 0)


def test_tokens_near_a_prompt_do_not_name_the_concept(knows):
    encoder = knows.model.conditioning.encoder
    own = set(encoder.words("ant"))
    for row in NearPrompt(budgets=(4,), search=SEARCH).prompts(encoder, attack_context(), 0):
        assert "ant" not in encoder.text(row).replace(" ", "")
        assert not own & set(row.tolist())


def test_searched_tokens_are_nearer_to_the_prompt_than_random_ones(knows):
    encoder, context = knows.model.conditioning.encoder, attack_context()
    target = encoder(["ant"], "cpu")[0, 4]
    searched = NearPrompt(budgets=(4,), search=TokenSearch(20, 24, 16)).prompts(encoder, context, 0)
    drawn = RandomTokens(budgets=(4,)).prompts(encoder, context, 0)
    near, far = (
        torch.nn.functional.cosine_similarity(encoder.embed_ids(ids, "cpu")[:, 9], target[None]).mean()
        for ids in (searched, drawn)
    )
    assert near > 0.9 > far


def test_searched_tokens_are_kept_for_all_generators_with_the_encoder(knows, tmp_path, monkeypatch):
    attack = ConceptDirection(budgets=(2,), search=SEARCH)
    encoder, folder = knows.model.conditioning.encoder, Folder.open(tmp_path)
    first = attack.prompts(encoder, attack_context(kept=Kept(folder)), 0)
    assert len(folder.names()) >= 1
    runs = []
    monkeypatch.setattr(TokenSearch, "run", lambda *_arguments, **_options: runs.append(1) or torch.tensor([1, 2]))
    assert torch.equal(attack.prompts(text_encoder(), attack_context(kept=Kept(folder)), 0), first)
    assert not runs
    attack.prompts(text_encoder(seed=1), attack_context(kept=Kept(folder)), 0)
    attack.prompts(encoder, attack_context(kept=Kept(folder)), 1)
    assert len(runs) == 4


def test_a_prefix_starts_as_random_tokens_and_becomes_more_telling(knows):
    context = attack_context(conditions=replace(CONDITIONS, names=("bee", "bee", *CONDITIONS.names[2:])))
    attack = PrefixSearch(restarts=1, budgets=(0, 30), batch_size=4)
    curves = [shown(attack, knows, context, seed) for seed in range(6)]
    assert sum(curve[1] for curve in curves) > sum(curve[0] for curve in curves)
    assert all(curve[1] >= curve[0] for curve in curves)


def test_images_that_are_not_finite_show_nothing(knows):
    broken = knowing(gain=float("nan"))
    assert set(shown(PrefixSearch(restarts=1, budgets=(0, 2), batch_size=4), broken)) == {0}
    assert set(shown(HeldOutPrompts(), broken)) == {0}
