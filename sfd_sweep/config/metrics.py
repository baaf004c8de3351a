"""The vocabulary of metrics: every name that an objective or a constraint may use, and which way is better."""

from dataclasses import dataclass
from enum import StrEnum


class Scale(StrEnum):
    """What the numbers of a metric are: a distance in [0, ∞), a share in [0, 1], or nats in [0, ∞)."""

    DISTANCE = "distance"
    SHARE = "share"
    NATS = "nats"


class Goal(StrEnum):
    """Which way a metric is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True)
class Metric:
    """One figure that an evaluation reports. `goal` is None where neither direction is better by itself.

    Only a share can be maximised: the combined score measures every metric from its best value, which must exist.
    """

    name: str
    scale: Scale
    goal: Goal | None
    description: str

    def __post_init__(self) -> None:
        if self.goal is Goal.MAXIMIZE and self.scale is not Scale.SHARE:
            raise ValueError(f"{self.name} has no upper end, so it cannot be maximised")

    @property
    def best(self) -> float:
        """The value that no generator can beat: 1 for a share to maximise, otherwise 0."""
        return 1.0 if self.goal is Goal.MAXIMIZE else 0.0


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "fd_classifier",
            Scale.DISTANCE,
            Goal.MINIMIZE,
            "Fréchet distance, on the classifier's features, of samples of the retained classes to real images of them",
        ),
        Metric(
            "unlearning_accuracy",
            Scale.SHARE,
            Goal.MAXIMIZE,
            "share of the samples of the forgotten condition that the classifier does not call forgotten",
        ),
        Metric(
            "override_distance",
            Scale.DISTANCE,
            Goal.MINIMIZE,
            "Fréchet distance of the samples of the forgotten condition to the override's real images",
        ),
        Metric(
            "override_rate",
            Scale.SHARE,
            Goal.MAXIMIZE,
            "share of the samples of the forgotten condition that the classifier calls the override",
        ),
        Metric(
            "retain_accuracy",
            Scale.SHARE,
            Goal.MAXIMIZE,
            "share of the samples of the retained classes that the classifier calls by their own class",
        ),
        Metric(
            "forget_probability",
            Scale.SHARE,
            None,
            "mean probability of the forgotten class on its samples",
        ),
        Metric("forget_entropy", Scale.NATS, None, "mean entropy of the classifier on forgotten samples"),
    )
}
