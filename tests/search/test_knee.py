"""The knee against its definition: the distance to a hyperplane, by linear algebra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sfd_sweep.search.pareto import knee


def convex_front(at: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([at, 1 / at], axis=1)


def test_the_knee_of_a_hyperbola_is_where_its_slope_is_the_chords() -> None:
    # On y = 1/x from x = 1/4 to 4, scaled by its own extent, the tangent is parallel to the chord at x = 1.
    at = np.array([0.25, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0])
    assert knee(convex_front(at)) == 3


def test_units_do_not_move_the_knee() -> None:
    at = np.array([0.25, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0])
    assert knee(convex_front(at) * [1000, 1e-3] + [5, -7]) == 3


@given(st.lists(st.floats(0.05, 20), min_size=3, max_size=12, unique=True).map(sorted))
def test_with_two_objectives_no_point_is_farther_below_the_line_between_the_extremes(at: list[float]) -> None:
    losses = convex_front(np.array(at))
    scaled = (losses - losses.min(axis=0)) / np.ptp(losses, axis=0)
    along = scaled[-1] - scaled[0]
    below = (scaled[:, 0] - scaled[0, 0]) * along[1] - (scaled[:, 1] - scaled[0, 1]) * along[0]
    assert below[knee(losses)] == pytest.approx(below.max(), abs=1e-9)


@given(arrays(np.float64, st.tuples(st.integers(2, 10), st.integers(2, 4)), elements=st.integers(0, 50).map(float)))
def test_with_any_objectives_no_point_is_farther_below_the_hyperplane_through_the_worst_values(
    losses: NDArray[np.float64],
) -> None:
    extent = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(extent == 0, 1, extent)
    dimensions = losses.shape[1]
    normal = np.linalg.solve(np.eye(dimensions), np.ones(dimensions))  # of the plane through the m unit points
    below = (1 - scaled @ normal) / np.linalg.norm(normal)
    assert below[knee(losses)] == pytest.approx(below.max(), abs=1e-9)


def test_a_single_point_is_its_own_knee() -> None:
    assert knee(np.array([[3.0, -0.2]])) == 0


@pytest.mark.parametrize("rows", [[[1.0, 9.0], [2.0, 4.0]], [[2.0, 4.0], [1.0, 9.0]]])
def test_of_two_points_it_is_the_better_in_the_first_objective(rows: list[list[float]]) -> None:
    assert rows[knee(np.array(rows))] == [1.0, 9.0]


def test_on_a_straight_front_it_is_the_most_even_point() -> None:
    assert knee(np.array([[0.0, 3.0], [1.0, 2.0], [1.4, 1.6], [3.0, 0.0]])) == 2


def test_an_objective_that_is_the_same_everywhere_counts_for_nothing() -> None:
    losses = np.array([[0.0, 5.0, 1.0], [0.1, 5.0, 0.1], [1.0, 5.0, 0.0]])
    assert knee(losses) == knee(losses[:, [0, 2]]) == 1


def test_equal_points_give_the_first() -> None:
    assert knee(np.ones((3, 2))) == 0


def test_an_empty_front_has_no_knee() -> None:
    with pytest.raises(ValueError, match="without points"):
        knee(np.empty((0, 2)))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_front_that_is_not_finite_is_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        knee(np.array([[0.0, 1.0], [odd, 0.0]]))
