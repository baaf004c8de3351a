"""The conditions of a task, as they stand in descriptions of exported generators."""

import pytest
from digit_conditions import digits_without
from pydantic import TypeAdapter

from sfd_sweep.evaluation.conditions import Conditions, spread

CONDITIONS = TypeAdapter(Conditions)


def test_conditions_survive_a_round_trip_through_json() -> None:
    conditions = digits_without(3, 5)
    assert CONDITIONS.validate_json(CONDITIONS.dump_json(conditions)) == conditions


def test_a_description_of_an_older_export_names_the_evaluated_conditions_otherwise() -> None:
    old = CONDITIONS.dump_python(digits_without(3))
    old["judged"] = old.pop("evaluated")
    assert CONDITIONS.validate_python(old) == digits_without(3)


@pytest.mark.parametrize(("samples", "expected"), [(3, [4, 5, 6]), (4, [4, 5, 6, 4, 5, 6]), (1, [4]), (2, [4, 5])])
def test_samples_are_spread_evenly_over_conditions(samples: int, expected: list[int]) -> None:
    assert spread([4, 5, 6], samples) == expected


def test_conditions_that_nobody_knows_are_neither_retained_nor_evaluated():
    conditions = Conditions.of_classes("abcde", [1]).without([0, 3])
    assert (conditions.retain, conditions.evaluated, conditions.forget) == ((2, 4), (2, 4), (1,))
    assert conditions.names == tuple("abcde")
    assert conditions.called == Conditions.of_classes("abcde", [1]).called
