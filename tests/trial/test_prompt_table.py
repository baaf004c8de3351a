"""The prompts of a concept: filled in, held apart, and replaced."""

import pytest

from sfd_sweep.config import Prompts, Task
from sfd_sweep.errors import UserError
from sfd_sweep.trial.prompt_table import prompt_table


def concept(*forget, **prompts):
    given = {"forget": ["a photo of {concept}", "{concept} smiling"], "retain": ["a dog"], **prompts}
    return Task(kind="concept", teacher="t", forget=forget or ("brad pitt",), prompts=Prompts(**given))


def table(task, *overrides, negatives=()):
    return prompt_table(task, overrides or ("a middle aged man",), negatives)


def texts(found, indices):
    return [found.conditions.names[index] for index in indices]


def refusal(task, *overrides):
    with pytest.raises(UserError) as caught:
        table(task, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_override_takes_the_place_of_the_concept_in_each_prompt():
    found = table(concept(), "a middle aged man", "a person")
    assert texts(found, found.conditions.forget) == ["a photo of brad pitt", "brad pitt smiling"]
    replaced = {override: texts(found, indices) for override, indices in found.overrides.items()}
    assert replaced == {
        "a middle aged man": ["a photo of a middle aged man", "a middle aged man smiling"],
        "a person": ["a photo of a person", "a person smiling"],
    }


def test_an_empty_override_leaves_no_gap():
    found = table(concept(), "")
    assert texts(found, found.overrides[""]) == ["a photo of", "smiling"]


def test_a_prompt_that_names_the_concept_in_any_case_needs_no_placeholder():
    found = table(concept(forget=["Brad Pitt at the beach", "a film with BRAD PITT in it"]), "a man")
    assert texts(found, found.conditions.forget) == ["brad pitt at the beach", "a film with brad pitt in it"]
    assert texts(found, found.overrides["a man"]) == ["a man at the beach", "a film with a man in it"]


def test_a_concept_is_not_found_inside_a_longer_word():
    assert "names no forgotten concept" in refusal(concept("cat", forget=["a {concept}", "a category"]), "dog")


def test_retained_templates_stand_for_all_others():
    found = table(concept(retain=["a dog", "a photo of {concept}"], others=("tom cruise", "madonna")))
    assert texts(found, found.conditions.retain) == ["a dog", "a photo of tom cruise", "a photo of madonna"]
    subjects = [found.conditions.subjects[index] for index in found.conditions.retain]
    assert subjects == ["", "tom cruise", "madonna"]


def test_several_concepts_have_the_same_prompts_and_an_override_each():
    found = table(concept("cat", "dog", retain=["a bee"]), ("ant", "bird"))
    assert [texts(found, group) for group in found.conditions.forgotten_groups] == [
        ["a photo of cat", "cat smiling"],
        ["a photo of dog", "dog smiling"],
    ]
    assert texts(found, found.overrides["ant", "bird"]) == [
        "a photo of ant",
        "ant smiling",
        "a photo of bird",
        "bird smiling",
    ]


def test_any_retained_prompt_may_replace_at_random():
    assert table(concept(), "random").overrides == {"random": None}


def test_held_out_prompts_are_judged_and_not_trained_on():
    found = table(concept(held_out=["a sketch of {concept}"], held_out_retain=["a cow"]))
    assert texts(found, found.conditions.held_out) == ["a sketch of brad pitt"]
    assert texts(found, found.conditions.evaluated) == ["a cow"]
    trained = {*found.conditions.retain, *found.conditions.forget}
    assert trained.isdisjoint({*found.conditions.held_out, *found.conditions.evaluated})


def test_quality_is_judged_on_the_retained_prompts_where_none_are_held_out():
    conditions = table(concept()).conditions
    assert conditions.evaluated == conditions.retain


def test_every_prompt_is_in_the_table_once_negative_ones_too():
    found = table(concept(retain=["a dog", "a dog"]), "a man", negatives=["nude", "a dog"])
    assert len(set(found.conditions.names)) == len(found.conditions.names)
    assert {"nude", "a dog"} <= set(found.conditions.names)


def test_prompts_are_read_from_files(tmp_path):
    (tmp_path / "forget.txt").write_text("a photo of {concept}\n")
    (tmp_path / "retain.csv").write_text("id,prompt\n1,a dog\n2,a cow\n")
    found = table(concept(forget=str(tmp_path / "forget.txt"), retain=str(tmp_path / "retain.csv")))
    assert texts(found, found.conditions.retain) == ["a dog", "a cow"]


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({"forget": ["a dog in a park"]}, "task.prompts.forget: no prompt is about 'brad pitt'"),
        ({"forget": ["{concept}", "a dog in a park"]}, "'a dog in a park' names no forgotten concept"),
        ({"retain": ["Brad Pitt smiling", "a dog"]}, "is in both `forget` and `retain`"),
        ({"retain": ["a dog with brad pitt"]}, "names a forgotten concept; remove it"),
        ({"retain": ["a {concept}"]}, "task.prompts.others is empty"),
        ({"held_out": ["{concept} smiling"]}, "is in both `held_out` and `forget`"),
        ({"held_out_retain": ["A dog"]}, "is in both `held_out_retain` and `retain`"),
        ({"retain": "/nowhere/prompts.txt"}, "task.prompts.retain: there is no file /nowhere/prompts.txt"),
    ],
)
def test_prompts_that_do_not_fit_one_another_are_refused(prompts, words):
    assert words in refusal(concept(**prompts))


def test_an_empty_file_of_prompts_is_refused(tmp_path):
    (tmp_path / "none.txt").write_text("\n \n")
    assert "there is no prompt in" in refusal(concept(forget=str(tmp_path / "none.txt")))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a man like Brad Pitt", "names a forgotten concept; choose other words"),
        ("classifier", "`classifier` is for classes"),
        (("a man", "a woman"), "2 overrides for 1 forgotten concepts"),
    ],
)
def test_an_override_that_is_none_is_refused(override, words):
    assert words in refusal(concept(), override)
