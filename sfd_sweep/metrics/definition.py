"""What a metric is: its name, scale, goal, needs and function. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from math import inf, log1p
from sys import float_info

MOST_COMPARED = 10_000
"""Samples, and real images, that are compared pairwise at most; of more, so many are drawn at random."""


class Scale(Enum):
    """The range of a metric's values, and the scale on which their differences are comparable.

    Attributes:
        words: what a value is, for messages.
        least: the least value; infinite for a scale without a lower end.
        greatest: the greatest value; infinite for a scale without an upper end.
    """

    DISTANCE = ("a distance, at least 0", 0.0, inf)
    SHARE = ("a share, from 0 to 1", 0.0, 1.0)
    NATS = ("an entropy in nats, at least 0", 0.0, inf)
    SCORE = ("a score, at least 1", 1.0, inf)
    KERNEL = ("a kernel distance, about 0 at best", -inf, inf)
    COSINE = ("a cosine, from 0 to 1", 0.0, 1.0)

    def __init__(self, words: str, least: float, greatest: float) -> None:
        self.words = words
        self.least = least
        self.greatest = greatest

    @property
    def is_bounded(self) -> bool:
        """Whether the scale has an upper end."""
        return self.greatest < inf

    def contains(self, value: float) -> bool:
        """Return whether a metric of this scale can have the value."""
        return self.least <= value <= self.greatest

    def transform(self, value: float) -> float:
        """Return the value on the even scale: log1p without an upper end, where values differ by factors."""
        return value if self.is_bounded else log1p(value)

    def excess(self, low: float, high: float) -> float:
        """Return transform(high) - transform(low), or 0 if high is not above low; rounding never makes it 0."""
        if high <= low:
            return 0.0
        return high - low if self.is_bounded else log1p((high - low) / (1 + low))


class Goal(StrEnum):
    """Which way a metric is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class ReferenceKind(StrEnum):
    """What generated images are compared with: real images, or the teacher's own samples."""

    REAL = "real"
    TEACHER = "teacher"

    @property
    def need(self) -> Need:
        """What metrics that are defined for this kind alone need."""
        return Need.REAL_IMAGES if self is ReferenceKind.REAL else Need.TEACHER_SAMPLES


class Need(Enum):
    """What a metric needs beside samples and the classes that the classifier gives them."""

    REAL_IMAGES = auto()  # as reference images
    TEACHER_SAMPLES = auto()  # as reference images
    FEATURES = auto()  # of the classifier, such that distances on them mean something
    INCEPTION = auto()  # features of Inception-V3
    ALL_CLASSES = auto()  # reference images of the forgotten classes, beside those of the retained ones
    FORGOTTEN_IMAGES = (
        auto()
    )  # reference images of what is forgotten; made only if a metric that is asked for needs them
    FINAL = auto()  # the final evaluation, which keeps every sample's features; its metrics cannot steer a search
    CLIP = auto()
    HELD_OUT = auto()  # prompts about the forgotten concept that training never uses
    NUDENET = auto()  # as the classifier
    INVERSION = auto()  # an attack on each generator, and a judge
    RELEARNING = auto()  # likewise
    CONTROL = auto()  # a generator that never knew what is forgotten


ATTACKS = frozenset({Need.INVERSION, Need.RELEARNING})
AUDITED = ATTACKS | {Need.CONTROL}
"""What the `audit` section of a search-space file provides."""


@dataclass(frozen=True)
class Metric:
    """One figure that an evaluation reports.

    Only a bounded scale can be maximized in a search: the combined score measures from the best value.

    Attributes:
        name: in search-space files, reports and MLflow.
        scale: of its values.
        goal: which way is better; None where neither is.
        description: one sentence.
        compute: its function of an `Evidence`; None where the metric is undefined, because the
            classifier has no class for what it should recognize.
        needs: without which it is not computed.
        forgotten: whether it is computed from samples of the forgotten conditions instead of the retained ones.
        most_samples: how many samples it uses at most; None: all.
    """

    name: str
    scale: Scale
    goal: Goal | None
    description: str
    compute: Callable[..., float | None] = field(repr=False)
    needs: frozenset[Need] = frozenset()
    forgotten: bool = False
    most_samples: int | None = None

    def __post_init__(self) -> None:
        if self.goal is Goal.MAXIMIZE and not self.scale.is_bounded and not self.final:
            raise ValueError(f"{self.name} has no upper end, so it cannot be maximized")

    @property
    def final(self) -> bool:
        """Whether only the final evaluation reports it."""
        return Need.FINAL in self.needs

    @property
    def audited(self) -> bool:
        """Whether it is measured by an attack, or against a generator that never knew."""
        return bool(self.needs & AUDITED)

    @property
    def inception(self) -> bool:
        """Whether it is computed from Inception-V3's features."""
        return Need.INCEPTION in self.needs

    @property
    def best(self) -> float:
        """The value that no generator can beat."""
        return self.scale.greatest if self.goal is Goal.MAXIMIZE else self.scale.least

    @property
    def worst(self) -> float:
        """The worst finite value."""
        return self.scale.least if self.goal is Goal.MAXIMIZE else min(self.scale.greatest, float_info.max)

    def count(self, samples: Mapping[str, int]) -> int:
        """Return how many of an evaluation's samples, which are counted by group, it is computed from.

        Reports of version 0.1.0 do not count held-out samples, of which there are about as many as forgotten ones.
        """
        made = samples["attacked" if self.needs & ATTACKS else "forgotten" if self.forgotten else "retained"]
        if Need.ALL_CLASSES in self.needs:
            made += samples["forgotten"]
        if Need.HELD_OUT in self.needs:
            made = samples.get("held_out", made)
        return made if self.most_samples is None else min(made, self.most_samples)


def samples_in_words(samples: Mapping[str, int]) -> str:
    """Return `2,007 retained and 1,000 forgotten samples`, or also held-out ones."""
    counts = [f"{count:,} {name.replace('_', '-')}" for name, count in samples.items()]
    return " and ".join(filter(None, (", ".join(counts[:-1]), *counts[-1:]))) + " samples"
