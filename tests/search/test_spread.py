"""The order that spreads over a front: against its definition, and against the guarantee that it is known for."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from sfd_sweep.search.pareto import farthest_first

coordinates = st.one_of(st.integers(0, 4).map(float), st.floats(0, 4, width=32))
points = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=coordinates)


def scaled(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    extent = np.ptp(losses, axis=0)
    return (losses - losses.min(axis=0)) / np.where(extent > 0, extent, 1)


def radius(places: NDArray[np.float64], chosen: list[int]) -> float:
    """How far the farthest point is from the nearest chosen one."""
    return float(cdist(places, places[chosen]).min(axis=1).max())


@given(points)
def test_it_is_an_order_of_all_points(losses: NDArray[np.float64]) -> None:
    assert sorted(farthest_first(losses).tolist()) == list(range(len(losses)))


@given(points)
def test_each_point_is_as_far_from_those_before_as_any_point_is(losses: NDArray[np.float64]) -> None:
    order, places = farthest_first(losses).tolist(), scaled(losses)
    for count in range(1, len(order)):
        own = cdist(places[[order[count]]], places[order[:count]]).min()
        assert own == pytest.approx(radius(places, order[:count]), abs=1e-12)


@given(points, st.integers(1, 4))
def test_a_beginning_covers_at_most_twice_as_far_as_the_best_choice(losses: NDArray[np.float64], count: int) -> None:
    count, places = min(count, len(losses)), scaled(losses)
    best = min(radius(places, list(chosen)) for chosen in combinations(range(len(losses)), count))
    assert radius(places, farthest_first(losses)[:count].tolist()) <= 2 * best + 1e-12


def test_the_ends_come_first_and_then_the_middle() -> None:
    losses = np.array([[0.4, 0.5], [1.0, 0.0], [0.1, 0.9], [0.0, 1.0]])
    assert farthest_first(losses).tolist() == [3, 1, 0, 2]


def test_units_of_the_objectives_do_not_matter() -> None:
    losses = np.random.default_rng(0).random((20, 3))
    assert np.array_equal(farthest_first(losses * [1000, 1, 0.01] + [5, 0, 1]), farthest_first(losses))


def test_a_point_that_is_there_already_comes_last() -> None:
    assert farthest_first(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.9, 0.1]])).tolist() == [0, 2, 3, 1]


def test_no_points_have_an_order() -> None:
    assert farthest_first(np.empty((0, 2))).tolist() == []


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_losses_that_are_not_finite_are_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        farthest_first(np.array([[odd, 0.0], [1.0, 1.0]]))
