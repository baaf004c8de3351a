"""Distributions against Optuna's own, and what they must hold for the settings to be valid."""

from typing import Any

import optuna.distributions
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from sfd_sweep.config import CategoricalDistribution, FloatDistribution, IntDistribution, Parameters, Settings

TWINS: list[tuple[FloatDistribution | IntDistribution, optuna.distributions.BaseDistribution]] = [
    (FloatDistribution(low=-1, high=2), optuna.distributions.FloatDistribution(-1, 2)),
    (FloatDistribution(low=0.1, high=2, log=True), optuna.distributions.FloatDistribution(0.1, 2, log=True)),
    (FloatDistribution(low=0, high=2, step=0.1), optuna.distributions.FloatDistribution(0, 2, step=0.1)),
    (IntDistribution(low=-3, high=3), optuna.distributions.IntDistribution(-3, 3)),
    (IntDistribution(low=1, high=9, step=2), optuna.distributions.IntDistribution(1, 9, step=2)),
    (IntDistribution(low=2, high=2), optuna.distributions.IntDistribution(2, 2)),
]


@pytest.mark.parametrize(("ours", "optunas"), TWINS)
@given(value=st.integers(-5, 12))
def test_a_distribution_contains_the_integers_that_optunas_does(
    ours: FloatDistribution | IntDistribution, optunas: optuna.distributions.BaseDistribution, value: int
) -> None:
    assume(value > 0 or not ours.log)  # Optuna takes no logarithm of anything else
    assert ours.contains(value) == optunas._contains(optunas.to_internal_repr(value))


@pytest.mark.parametrize(("ours", "optunas"), TWINS[:3])
@given(value=st.one_of(st.floats(-3, 3), st.integers(-20, 30).map(lambda tenths: tenths / 10)))
def test_a_float_distribution_contains_the_numbers_that_optunas_does(
    ours: FloatDistribution | IntDistribution, optunas: optuna.distributions.BaseDistribution, value: float
) -> None:
    assert ours.contains(value) == optunas._contains(value)


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), float("-inf")])
def test_a_numeric_distribution_contains_nothing_but_finite_numbers(value: Any) -> None:
    assert not FloatDistribution(low=-5, high=5).contains(value)
    assert not IntDistribution(low=-5, high=5).contains(value)


def test_a_whole_float_is_not_in_an_integer_distribution() -> None:
    assert not IntDistribution(low=0, high=5).contains(1.0)


def test_choices_tell_numbers_from_words_and_truth_values() -> None:
    choices = CategoricalDistribution(choices=(1, "random", 0.5))
    assert [choices.contains(value) for value in (1, "random", 0.5)] == [True] * 3
    assert [choices.contains(value) for value in (True, "1", 1.0, [1], None)] == [False] * 5


def test_sampled_values_and_fixed_ones_make_the_settings() -> None:
    parameters = Parameters.model_validate(
        {"alpha": 1.0, "batch_size": {"type": "int", "low": 8, "high": 64, "log": True}}
    )
    assert parameters.settings({"batch_size": 16}) == Settings(alpha=1.0, batch_size=16)


def test_parameters_without_any_given_are_the_default_settings() -> None:
    assert Parameters().settings({}) == Settings()


def test_a_float_setting_may_have_an_integer_distribution() -> None:
    parameters = Parameters.model_validate({"guidance_scale": {"type": "int", "low": 1, "high": 3}})
    assert parameters.searched() == {"guidance_scale": IntDistribution(low=1, high=3)}


def test_diffusion_steps_that_no_trial_could_swap_may_be_searched() -> None:
    steps = {"t_min": {"type": "int", "low": 0, "high": 99}, "t_max": {"type": "categorical", "choices": [900, 100]}}
    assert set(Parameters.model_validate(steps).searched()) == {"t_min", "t_max"}


@pytest.mark.parametrize(
    ("name", "distribution", "location"),
    [
        ("generator_lr", {"type": "float", "low": 0, "high": 1}, ("generator_lr", "low")),
        ("ema_decay", {"type": "float", "low": 0.9, "high": 1}, ("ema_decay", "high")),
        ("batch_size", {"type": "categorical", "choices": [8, 0]}, ("batch_size", "choices", 1)),
        ("t_init", {"type": "float", "low": 1, "high": 9}, ("t_init", "type")),
        ("t_min", {"type": "int", "low": 0, "high": 999}, ("t_min",)),
    ],
)
def test_a_distribution_with_a_value_that_the_setting_refuses_is_refused_where_it_stands(
    name: str, distribution: dict[str, Any], location: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Parameters.model_validate({name: distribution})
    assert [error["loc"] for error in caught.value.errors()] == [location]
