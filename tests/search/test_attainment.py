"""Attainment surfaces, against a count of the runs that attain each point of a grid."""

import numpy as np
import pytest

from sfd_sweep.search.attainment import attainment_surface


def attaining(fronts: list[np.ndarray], point: np.ndarray) -> int:
    return sum(any((own <= point).all() for own in front) for front in fronts)


def by_counting(fronts: list[np.ndarray], share: float) -> list[tuple[float, float]]:
    """The points of the grid through all coordinates that enough runs attain and no other such point dominates."""
    points = np.concatenate(fronts)
    grid = [np.array([x, y]) for x in np.unique(points[:, 0]) for y in np.unique(points[:, 1])]
    enough = [point for point in grid if attaining(fronts, point) / len(fronts) >= share]
    return [
        tuple(point)
        for point in enough
        if not any((other <= point).all() and (other < point).any() for other in enough)
    ]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 1.0])
def test_a_surface_is_what_counting_on_a_grid_finds(share: float) -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        fronts = [
            random.integers(0, 7, size=(random.integers(0, 6), 2)).astype(float) for _ in range(random.integers(1, 7))
        ]
        assert [tuple(point) for point in attainment_surface(fronts, share)] == by_counting(fronts, share)


def test_a_run_without_points_counts_as_one_that_attains_nothing() -> None:
    front, nothing = np.array([[1.0, 2.0]]), np.empty((0, 2))
    assert attainment_surface([front, nothing], 0.5).tolist() == [[1.0, 2.0]]
    assert attainment_surface([front, nothing], 0.75).tolist() == []
    assert attainment_surface([front, nothing, nothing], 0.5).tolist() == []


def test_the_surface_of_one_run_is_its_front() -> None:
    front = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [3.0, 3.0]])
    assert attainment_surface([front], 0.5).tolist() == [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]
