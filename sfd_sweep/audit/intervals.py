"""Confidence intervals of rates, and of differences of rates. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import variance

Z = 1.959963984540054
"""The normal quantile of two-sided 95 % intervals."""


@dataclass(frozen=True)
class Interval:
    """A rate or a difference of rates with its 95 % interval."""

    value: float
    low: float
    high: float


def rate_interval(shown: Sequence[int], samples: Sequence[int]) -> Interval:
    """Return the pooled rate over repetitions with Wilson's interval.

    Repetitions that differ by more than binomial noise count for fewer samples: the number of samples is divided by the
    design effect, the variance between repetitions over the binomial one (Kish, "Survey Sampling", 1965; Dean & Pagano,
    "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys", 2015).

    Args:
        shown: by repetition, how many samples are hits.
        samples: by repetition, of how many, at least 1 each.
    """
    n = sum(samples)
    rate = sum(shown) / n
    effective = n / _design_effect(shown, samples, rate)
    return Interval(rate, *_wilson(rate, effective))


def excess_interval(rate: Interval, control: Interval) -> Interval:
    """Return rate - control, with Newcombe's hybrid score interval (Statistics in Medicine, 1998, method 10)."""
    value = rate.value - control.value
    below = sqrt((rate.value - rate.low) ** 2 + (control.high - control.value) ** 2)
    above = sqrt((rate.high - rate.value) ** 2 + (control.value - control.low) ** 2)
    return Interval(value, value - below, value + above)


def _design_effect(shown: Sequence[int], samples: Sequence[int], rate: float) -> float:
    if len(shown) < 2 or rate in (0.0, 1.0):
        return 1.0
    between = variance(hits / n for hits, n in zip(shown, samples, strict=True))
    binomial = rate * (1 - rate) * len(samples) / sum(samples)
    return max(1.0, between / binomial)


def _wilson(rate: float, n: float) -> tuple[float, float]:
    """Return the limits of Wilson's score interval (Journal of the American Statistical Association, 1927)."""
    scale = 1 + Z**2 / n
    centre = (rate + Z**2 / (2 * n)) / scale
    half = Z * sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2)) / scale
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))
