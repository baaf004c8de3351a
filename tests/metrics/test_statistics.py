import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance as cleanfid_frechet_distance
from hypothesis import given
from hypothesis import strategies as st

from sfd_sweep.metrics.statistics import Statistics


def _features(count: int, size: int, seed: int) -> torch.Tensor:
    """Correlated features with a mean that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator) / size**0.5
    return torch.randn(count, size, generator=generator) @ mixing + torch.randn(size, generator=generator)


def _cleanfid(a: Statistics, b: Statistics) -> float:
    return float(cleanfid_frechet_distance(a.mean.numpy(), a.covariance.numpy(), b.mean.numpy(), b.covariance.numpy()))


@pytest.mark.parametrize(("size", "count"), [(2, 50), (64, 1000), (256, 2000)])
def test_the_distance_is_cleanfids(size: int, count: int) -> None:
    a, b = (Statistics.over([_features(count, size, seed)]) for seed in (0, 1))
    assert a.frechet_distance(b) == pytest.approx(_cleanfid(a, b), rel=1e-6)


def test_the_distance_is_cleanfids_where_the_covariance_is_near_singular() -> None:
    scale = torch.logspace(0, -4, 64)
    a, b = (Statistics.over([_features(1000, 64, seed) * scale]) for seed in (0, 1))
    assert a.frechet_distance(b) == pytest.approx(_cleanfid(a, b), rel=1e-6)


def test_gaussians_with_commuting_covariances_have_the_closed_form() -> None:
    mean_a, mean_b = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.0, 2.0, 5.0]).double()
    variance_a, variance_b = torch.tensor([4.0, 1.0, 0.0]).double(), torch.tensor([1.0, 9.0, 0.0]).double()
    a, b = Statistics(mean_a, variance_a.diag(), 9), Statistics(mean_b, variance_b.diag(), 9)
    assert a.frechet_distance(b) == pytest.approx((1 + 0 + 4) + (2 - 1) ** 2 + (1 - 3) ** 2)


def test_singular_covariances_of_fewer_samples_than_features_have_a_distance() -> None:
    features = _features(20, 64, 0)
    a = Statistics.over([features])
    moved = Statistics.over([features + 0.5])
    assert a.frechet_distance(moved) == pytest.approx(64 * 0.25, rel=1e-5)


@pytest.mark.parametrize(("size", "count"), [(1, 2), (64, 20), (64, 1000), (256, 2000)])
def test_the_distance_of_features_to_themselves_is_nothing(size: int, count: int) -> None:
    statistics = Statistics.over([_features(count, size, 0)])
    assert 0 <= statistics.frechet_distance(statistics) < 1e-5 * max(1.0, float(statistics.covariance.trace()))


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 20))
def test_the_distance_is_symmetric_and_never_negative(seed: int, size: int, count: int) -> None:
    a, b = Statistics.over([_features(count, size, seed)]), Statistics.over([_features(count + 3, size, seed + 1)])
    assert a.frechet_distance(b) >= 0
    assert a.frechet_distance(b) == pytest.approx(b.frechet_distance(a), rel=1e-5, abs=1e-5)


def test_the_statistics_are_numpys() -> None:
    features = _features(300, 16, 0)
    statistics = Statistics.over([features])
    np.testing.assert_allclose(statistics.mean.numpy(), features.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance.numpy(), np.cov(features.double().numpy().T), rtol=1e-9)
    assert statistics.count == 300


@pytest.mark.parametrize("batch_size", [1, 7, 100, 300])
def test_statistics_do_not_depend_on_how_features_are_batched(batch_size: int) -> None:
    features = _features(300, 16, 0).double() + 1e4  # far from the origin, where a sum of squares would cancel
    statistics = Statistics.over([*features.split(batch_size), features[:0]])
    assert statistics.count == 300
    np.testing.assert_allclose(statistics.covariance.numpy(), np.cov(features.numpy().T), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_a_covariance_of_fewer_than_two_features_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"needs two features or more, not {count}"):
        Statistics.over([torch.zeros(count, 3)])
