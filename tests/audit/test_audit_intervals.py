"""Intervals of rates and of their differences, against published tables and the equations that define them."""

from math import sqrt
from statistics import NormalDist, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from sfd_sweep.audit.intervals import Interval, Z, excess_interval, rate_interval

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def limits(rate: Interval) -> tuple[float, float]:
    return rate.low, rate.high


def test_the_quantile_is_that_of_the_normal_distribution():
    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-12) == Z


@pytest.mark.parametrize(
    ("shown", "samples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_rates_have_the_score_limits_of_newcombes_table(shown, samples, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, method 3."""
    assert limits(rate_interval([shown], [samples])) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_differences_have_the_limits_of_newcombes_table(first, second, low, high):
    """Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10."""
    rates = [rate_interval([shown], [samples]) for shown, samples in (first, second)]
    assert limits(excess_interval(*rates)) == pytest.approx((low, high), abs=1.5e-4)


@given(counts)
def test_the_limits_solve_the_score_equation(count):
    """A limit p is the hypothesis whose own standard error puts the observed rate z of them away."""
    shown, samples = count
    found, rate = rate_interval([shown], [samples]), shown / samples

    def beyond(p: float) -> float:
        return abs(rate - p) - Z * sqrt(p * (1 - p) / samples)

    if shown > 0:
        assert found.low == pytest.approx(brentq(beyond, 1e-12, rate * (1 - 1e-9)), abs=1e-6)
    if shown < samples:
        assert found.high == pytest.approx(brentq(beyond, rate + (1 - rate) * 1e-9, 1 - 1e-12), abs=1e-6)


@given(counts, counts)
def test_an_excess_lies_within_its_limits_and_changes_its_sign_with_the_roles(first, second):
    one, other = (rate_interval([shown], [samples]) for shown, samples in (first, second))
    there, back = excess_interval(one, other), excess_interval(other, one)
    assert -1 <= there.low <= there.value <= there.high <= 1
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_repetitions_that_agree_count_as_many_samples():
    assert rate_interval([30, 30, 30], [100, 100, 100]) == rate_interval([90], [300])


def test_repetitions_that_differ_count_for_fewer_samples():
    shown, samples = [0, 30, 90], [100, 100, 100]
    found, rate = rate_interval(shown, samples), 0.4
    effect = variance([0.0, 0.3, 0.9]) / (rate * (1 - rate) / 100)
    fewer = 300 / effect
    centre, half = _wilson(rate, fewer)
    assert limits(found) == pytest.approx((centre - half, centre + half))
    assert found.high - found.low > 3 * (rate_interval([120], [300]).high - rate_interval([120], [300]).low)


def _wilson(p: float, n: float) -> tuple[float, float]:
    """Agresti & Coull, The American Statistician, 1998, equation 2."""
    z = NormalDist().inv_cdf(0.975)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    return centre, z * sqrt((p * (1 - p) + z * z / (4 * n)) / n) / (1 + z * z / n)
