"""Parameters that are drawn only where another has a certain value."""

from typing import Any

import pytest

from sfd_sweep.config import Distribution, SearchSpace, Settings, dump_search_space, parse_search_space
from sfd_sweep.errors import UserError

TEXT = """\
name: conditional
task: {teacher: "builtin:digits", forget: [0]}
trial: {steps: 60, evaluate_every: 20}
parameters:
  guidance_scale: {type: float, low: 1.5, high: 2, when: {loss: score_identity}, otherwise: 1}
  loss: {type: categorical, choices: [score_identity, diff_instruct]}
  override: {type: categorical, choices: [1, random], when: {batch_size: [16, 32]}, otherwise: classifier}
  batch_size: {type: categorical, choices: [16, 32, 64]}
  forget_batch_size: {type: int, low: 8, high: 16, when: {override: [random, classifier], loss: diff_instruct},
                      otherwise: 4}
budget: {trials: 16}
objectives: [{metric: fd_classifier, goal: minimize, reference_point: 10}]
"""

DRAWS = {
    "loss": "score_identity",
    "batch_size": 32,
    "guidance_scale": 1.75,
    "override": "random",
    "forget_batch_size": 9,
}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return parse_search_space(TEXT, "x.yaml")


def drawn_with(space: SearchSpace, **changed: Any) -> tuple[list[str], Settings]:
    """Which parameters are drawn where each would be as said, and the settings that come of it."""
    asked: dict[str, Any] = {}

    def suggest(name: str, distribution: Distribution) -> Any:
        asked[name] = (DRAWS | changed)[name]
        return asked[name]

    values = space.parameters.draw(suggest)
    settings = space.parameters.settings(asked)
    assert settings == space.parameters.settings(values)
    assert space.parameters.drawn(settings) == asked
    return sorted(asked), settings


def test_a_parameter_is_drawn_where_its_condition_holds_and_is_fixed_otherwise(space: SearchSpace) -> None:
    names, settings = drawn_with(space)
    assert names == ["batch_size", "guidance_scale", "loss", "override"]
    assert (settings.guidance_scale, settings.forget_batch_size) == (1.75, 4)
    names, settings = drawn_with(space, loss="diff_instruct")
    assert names == ["batch_size", "forget_batch_size", "loss", "override"]
    assert (settings.guidance_scale, settings.forget_batch_size) == (1.0, 9)


def test_a_condition_goes_by_what_a_conditional_parameter_is_otherwise(space: SearchSpace) -> None:
    names, settings = drawn_with(space, loss="diff_instruct", batch_size=64)
    assert names == ["batch_size", "forget_batch_size", "loss"]
    assert (settings.override, settings.forget_batch_size) == ("classifier", 9)
    names, settings = drawn_with(space, loss="diff_instruct", override=1)
    assert (settings.override, settings.forget_batch_size) == (1, 4)


def test_conditions_survive_a_dump(space: SearchSpace) -> None:
    assert parse_search_space(dump_search_space(space), "dumped") == space


def test_conditions_are_told_in_words(space: SearchSpace) -> None:
    searched = space.parameters.searched()
    assert searched["forget_batch_size"].in_words() == (
        "an integer from 8 to 16 where override is random or classifier and loss is diff_instruct, otherwise 4"
    )
    assert searched["loss"].in_words() == "score_identity or diff_instruct"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parameters.loss.when={los: 1}", "parameters.loss.otherwise: is missing: the value where `when` "
         "does not hold"),
        ("parameters.loss.otherwise=diff_instruct", "parameters.loss.otherwise: needs a condition: add `when`, or "
         "remove it"),
        ("parameters.guidance_scale.when={los: 1}", "parameters.guidance_scale.when.los: unknown "
         "parameter; did you mean loss?"),
        ("parameters.guidance_scale.when={alpha: 1}", "parameters.guidance_scale.when.alpha: alpha "
         "is not searched, so it never changes; remove the condition"),
        ("parameters.guidance_scale.when={forget_batch_size: 8}", "parameters.guidance_scale.when."
         "forget_batch_size: only a categorical parameter can be a condition, and forget_batch_size is int"),
        ("parameters.guidance_scale.when={override: 2}", "parameters.guidance_scale.when.override: "
         "must be 1, random or classifier as in parameters.override, not 2"),
        ("parameters.guidance_scale.when={}", "parameters.guidance_scale.when: names no "
         "parameter; name one, or remove it"),
        ("parameters.guidance_scale.otherwise=-1", "parameters.guidance_scale.otherwise: must be "
         "greater than or equal to 0, not -1"),
        ("parameters.override.when={override: 1}", "parameters.override.when: override depends on "
         "override; remove one of the conditions"),
        ("search.sampler=qmc", "search.sampler: qmc does not support conditions, and override has one; choose tpe, "
         "or remove `when`"),
        ("search.first=[{guidance_scale: 1.5}]", "search.first.0.guidance_scale: is drawn only "
         "where loss is score_identity; set that here too, or remove it"),
        ("search.first=[{guidance_scale: 1.5, loss: diff_instruct}]", "search.first.0."
         "guidance_scale: is drawn only where loss is score_identity; set that here too, or remove it"),
        ("search.first=[{forget_batch_size: 8, loss: diff_instruct}]", "search.first.0.forget_batch_size: is drawn "
         "only where override is random or classifier and loss is diff_instruct; set that here too, or remove it"),
    ],
)  # fmt: skip
def test_a_condition_that_makes_no_sense_is_refused_where_it_stands(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_search_space(TEXT, "x.yaml", [override])
    assert str(caught.value).endswith(f": {message}")


def test_what_is_forgotten_replaces_nothing_otherwise_either() -> None:
    overrides = ["parameters.override.otherwise=0", "parameters.forget_batch_size=8"]
    with pytest.raises(UserError, match=r"parameters.override: 0 is forgotten, so it cannot be the override"):
        parse_search_space(TEXT, "x.yaml", overrides)


def test_conditions_that_form_a_cycle_are_refused() -> None:
    circle = ["parameters.loss.when={batch_size: 16}", "parameters.loss.otherwise=diff_instruct",
              "parameters.batch_size.when={loss: diff_instruct}", "parameters.batch_size.otherwise=16"]  # fmt: skip
    with pytest.raises(UserError, match=r"when: \w+ depends on \w+, which depends on \w+; remove"):
        parse_search_space(TEXT, "x.yaml", circle)


@pytest.mark.parametrize(
    "point",
    [
        "{guidance_scale: 1.5, loss: score_identity}",
        "{forget_batch_size: 8, loss: diff_instruct, override: random, batch_size: 16}",
        "{forget_batch_size: 8, loss: diff_instruct, batch_size: 64}",
    ],
)
def test_first_points_may_set_what_their_other_values_have_drawn(point: str) -> None:
    parse_search_space(TEXT, "x.yaml", [f"search.first=[{point}]"])
