"""Dominance against the definition, point by point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from optuna.study._multi_objective import _fast_non_domination_rank, _is_pareto_front

from sfd_sweep.config import Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.pareto import fronts, non_dominated, to_losses

# Few distinct values, so that ties, duplicates and dominated points are common.
coordinates = st.one_of(st.integers(0, 3).map(float), st.sampled_from([np.inf, -np.inf]))
points = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=coordinates)

OBJECTIVES = [
    Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10),
    Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0),
]


def figures(distance: float, accuracy: float) -> dict[str, float]:
    return {"fd_classifier": distance, "unlearning_accuracy": accuracy}


def dominates(one: list[float], other: list[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


@given(points)
def test_a_point_is_marked_exactly_if_no_other_dominates_it(losses: NDArray[np.float64]) -> None:
    rows = losses.tolist()
    assert non_dominated(losses).tolist() == [not any(dominates(other, row) for other in rows) for row in rows]


@given(points)
def test_the_mask_is_optunas(losses: NDArray[np.float64]) -> None:
    assert np.array_equal(non_dominated(losses), _is_pareto_front(losses, assume_unique_lexsorted=False))


@given(points, st.randoms())
def test_the_order_of_the_points_does_not_matter(losses: NDArray[np.float64], random: np.random.Generator) -> None:
    order = list(range(len(losses)))
    random.shuffle(order)
    assert np.array_equal(non_dominated(losses[order]), non_dominated(losses)[order])


def test_no_point_is_marked_among_none() -> None:
    assert non_dominated(np.empty((0, 2))).tolist() == []


def test_a_single_point_is_marked() -> None:
    assert non_dominated(np.array([[np.inf, 3.0]])).tolist() == [True]


def test_equal_points_are_marked_together() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist() == [True, True, False]


def test_a_point_with_a_nan_neither_dominates_nor_is_marked() -> None:
    assert non_dominated(np.array([[np.nan, 0.0], [1.0, 1.0], [-np.inf, np.nan]])).tolist() == [False, True, False]


def test_maximized_columns_change_their_sign() -> None:
    losses = to_losses([figures(1.0, 0.25), figures(np.inf, -0.0)], OBJECTIVES)
    assert losses.tolist() == [[1.0, -0.25], [np.inf, 0.0]]


def test_no_values_are_losses_of_no_point() -> None:
    assert to_losses([], OBJECTIVES).shape == (0, 2)


def test_figures_that_lack_an_objective_are_refused() -> None:
    with pytest.raises(KeyError, match="unlearning_accuracy"):
        to_losses([{"fd_classifier": 1.0}], OBJECTIVES)


@given(points)
def test_fronts_are_what_is_left_non_dominated_once_the_fronts_before_are_gone(losses: NDArray[np.float64]) -> None:
    left = np.arange(len(losses))
    for front in fronts(losses):
        assert front.tolist() == left[non_dominated(losses[left])].tolist()
        left = np.setdiff1d(left, front)
    assert len(left) == 0


@given(points)
def test_fronts_are_optunas(losses: NDArray[np.float64]) -> None:
    ranks = _fast_non_domination_rank(losses)
    assert [front.tolist() for front in fronts(losses)] == [
        np.flatnonzero(ranks == rank).tolist() for rank in range(ranks.max() + 1)
    ]


def test_no_points_have_no_fronts() -> None:
    assert fronts(np.empty((0, 2))) == []


def test_a_point_with_a_nan_is_on_no_front() -> None:
    with pytest.raises(ValueError, match="NaN"):
        fronts(np.array([[np.nan, 0.0], [1.0, 1.0]]))
