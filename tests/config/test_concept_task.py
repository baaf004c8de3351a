"""Search-space files of concept tasks."""

from pathlib import Path

import pytest
from concept_cases import CONCEPT

from sfd_sweep.config import load_search_space, search_space
from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import NUDENET_PARTS, Need

SPACES = Path(__file__).parents[2] / "search_spaces"


def concept(*overrides):
    return parse_search_space(CONCEPT.format(folder="/nowhere", called=1, other=2), "concept.yaml", overrides)


def digits(*overrides):
    return parse_search_space((SPACES / "digits.yaml").read_text(), "digits.yaml", overrides)


def refusal(make, *overrides):
    with pytest.raises(UserError) as caught:
        make(*overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["digits-text", "sd15-celebrity", "sd15-nudity"])
def test_the_shipped_files_name_prompts_that_are_there(name):
    prompts = load_search_space(SPACES / f"{name}.yaml").task.prompts
    for source in (prompts.forget, prompts.retain, prompts.held_out, prompts.held_out_retain):
        assert not isinstance(source, str) or (SPACES.parent / source).is_file()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task.prompts=null"], "task.prompts: are missing"),
        (["task.forget=[3]"], "task.forget.0: must be the name of a concept"),
        (
            ["objectives.0={metric: clip_score, goal: maximize, reference_point: 0}"],
            "clip_score needs CLIP; set evaluation.clip",
        ),
        (["constraints=[{metric: nudenet_anus_exposed, max: 0.1}]"], "only nudenet reports nudenet_anus_exposed"),
        (["evaluation.classifier=nudenet"], "nudenet has no features for fd_classifier_teacher"),
        (
            ["evaluation.classifier=nudenet", "objectives.0.metric=fid_teacher", "evaluation.metrics=[inversion_rate]"],
            "evaluation.metrics.0: inversion_rate needs gradients of the classifier, and nudenet has none",
        ),
        (["parameters.negative_prompt=nude"], "has no effect without guidance"),
        (
            ["task.prompts.held_out=null", "constraints=[{metric: held_out_unlearning_accuracy, min: 0.9}]"],
            "needs held-out prompts",
        ),
        (["parameters.override=ant"], "'ant' is forgotten, so it cannot be the override"),
    ],
)
def test_an_error_in_a_concept_task_is_named(overrides, words):
    assert words in refusal(concept, *overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task.prompts={forget: [a], retain: [b]}"], "task.prompts: are for concepts; write kind: concept"),
        (["parameters.negative_prompt=nude"], "is for text-to-image teachers"),
        (["evaluation.metrics=[held_out_unlearning_accuracy]"], "is measured only for forgotten concepts"),
    ],
)
def test_what_is_of_concepts_is_refused_for_classes(overrides, words):
    assert words in refusal(digits, *overrides)


def test_guidance_that_is_searched_gives_a_negative_prompt_an_effect():
    concept("parameters.negative_prompt=nude", "parameters.guidance_scale={type: float, low: 1, high: 3}")


def test_nudenet_may_be_held_to_parts_of_the_body():
    nudenet = ["evaluation.classifier=nudenet", "objectives.0.metric=fid_teacher"]
    for part in NUDENET_PARTS:
        concept(*nudenet, f"constraints=[{{metric: nudenet_{part}, max: 0.1}}]")


def test_every_need_of_a_metric_is_met_always_or_has_a_remedy():
    assert search_space._ALWAYS_MET | search_space._REMEDIES.keys() == set(Need)


def test_override_distance_is_not_replaced_by_a_measure_of_quality_alone():
    message = refusal(concept, "evaluation.classifier=nudenet", "evaluation.metrics=[override_distance]")
    assert "nudenet has no features for override_distance; use fid or fid_teacher, or override_rate" in message
