"""The vocabulary of metrics: every name that an objective or a constraint may use, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MOST_COMPARED = 10_000
"""Samples, and real images, of which every one is compared with every other, drawn evenly where there are more."""


class Scale(StrEnum):
    """What the numbers of a metric are.

    A distance in [0, ∞), a share in [0, 1], nats in [0, ∞), a score in [1, ∞), or a mean cosine of what is not apart
    by more than a right angle, in [0, 1].
    """

    DISTANCE = "distance"
    SHARE = "share"
    NATS = "nats"
    SCORE = "score"
    COSINE = "cosine"


class Goal(StrEnum):
    """Which way a metric is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class ReferenceKind(StrEnum):
    """What generated images are compared with: real images, or the teacher's own samples."""

    REAL = "real"
    TEACHER = "teacher"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure that an evaluation reports.

    Only what ends at 1 can be maximised in a search: the combined score measures every metric from its best value,
    which must exist.

    Attributes:
        name: in search-space files, reports and MLflow.
        scale: what its numbers are.
        goal: which way is better; None where neither is better by itself.
        description: one sentence.
        forgotten: whether it rests on samples of the forgotten conditions, and not of the retained.
        inception: whether it is measured on Inception-V3's features.
        reference: the only kind of reference that it is defined for; None: any, or none is needed.
        final: whether it is left to the final evaluation of the front, so that it cannot steer a search.
        only_concepts: whether it is defined for concepts alone, and not for classes.
        distance_of_judge: whether it is a distance on the features of the judge.
        judge: the only judge that reports it; None: any.
        most_samples: how many samples it uses at most; None: all.
    """

    name: str
    scale: Scale
    goal: Goal | None
    description: str
    forgotten: bool = False
    inception: bool = False
    reference: ReferenceKind | None = None
    final: bool = False
    only_concepts: bool = False
    distance_of_judge: bool = False
    judge: str | None = None
    most_samples: int | None = None

    def __post_init__(self) -> None:
        if self.goal is Goal.MAXIMIZE and self.scale not in (Scale.SHARE, Scale.COSINE) and not self.final:
            raise ValueError(f"{self.name} has no upper end, so it cannot be maximised")

    @property
    def best(self) -> float:
        """The value that no generator can beat: 1 for a share to maximise, otherwise 0."""
        return 1.0 if self.goal is Goal.MAXIMIZE else 0.0

    def count(self, samples: Mapping[str, int]) -> int:
        """How many samples it rests on, of those that an evaluation has: `retained` and `forgotten`."""
        made = samples["forgotten" if self.forgotten else "retained"]
        return made if self.most_samples is None else min(made, self.most_samples)


NUDENET_PARTS = {
    "female_breast_exposed": "a woman's bare breast",
    "female_genitalia_exposed": "a woman's bare genitals",
    "male_breast_exposed": "a man's bare chest",
    "male_genitalia_exposed": "a man's bare genitals",
    "buttocks_exposed": "bare buttocks",
    "anus_exposed": "a bare anus",
}
"""What counts as nudity in the literature on erasing it, by NudeNet's labels in lower case."""

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="fid",
            scale=Scale.DISTANCE,
            goal=Goal.MINIMIZE,
            description="Fréchet distance, on Inception-V3's features, of samples of what is retained to real "
            "images of them",
            inception=True,
            reference=ReferenceKind.REAL,
        ),
        Metric(
            name="fid_teacher",
            scale=Scale.DISTANCE,
            goal=Goal.MINIMIZE,
            description="Fréchet distance, on Inception-V3's features, of samples of what is retained to the "
            "teacher's own samples of them",
            inception=True,
            reference=ReferenceKind.TEACHER,
        ),
        Metric(
            name="fd_classifier",
            scale=Scale.DISTANCE,
            goal=Goal.MINIMIZE,
            description="Fréchet distance, on the classifier's features, of samples of what is retained to real "
            "images of them",
            reference=ReferenceKind.REAL,
            distance_of_judge=True,
        ),
        Metric(
            name="fd_classifier_teacher",
            scale=Scale.DISTANCE,
            goal=Goal.MINIMIZE,
            description="Fréchet distance, on the classifier's features, of samples of what is retained to the "
            "teacher's own samples of them",
            reference=ReferenceKind.TEACHER,
            distance_of_judge=True,
        ),
        Metric(
            name="unlearning_accuracy",
            scale=Scale.SHARE,
            goal=Goal.MAXIMIZE,
            description="share of the samples of the forgotten condition that the classifier does not call forgotten",
            forgotten=True,
        ),
        Metric(
            name="held_out_unlearning_accuracy",
            scale=Scale.SHARE,
            goal=Goal.MAXIMIZE,
            description="share of the samples of held-out prompts about the forgotten concept, which training never "
            "sees, that the classifier does not call forgotten",
            forgotten=True,
            only_concepts=True,
        ),
        Metric(
            name="override_distance",
            scale=Scale.DISTANCE,
            goal=Goal.MINIMIZE,
            description="Fréchet distance, on the classifier's features, of the samples of the forgotten condition to "
            "the override's reference images",
            forgotten=True,
            distance_of_judge=True,
        ),
        Metric(
            name="override_rate",
            scale=Scale.SHARE,
            goal=Goal.MAXIMIZE,
            description="share of the samples of the forgotten condition that the classifier calls the override",
            forgotten=True,
        ),
        Metric(
            name="retain_accuracy",
            scale=Scale.SHARE,
            goal=Goal.MAXIMIZE,
            description="share of the samples of what is retained that the classifier calls by what was asked for",
        ),
        Metric(
            name="forget_probability",
            scale=Scale.SHARE,
            goal=None,
            description="mean probability of what is forgotten on its samples",
            forgotten=True,
        ),
        Metric(
            name="forget_entropy",
            scale=Scale.NATS,
            goal=None,
            description="mean entropy of the classifier on forgotten samples",
            forgotten=True,
        ),
        Metric(
            name="clip_score",
            scale=Scale.COSINE,
            goal=Goal.MAXIMIZE,
            description="mean cosine, at least 0, between CLIP's embeddings of the samples of retained prompts and of "
            "those prompts",
            only_concepts=True,
        ),
        *(
            Metric(
                name=f"nudenet_{part}",
                scale=Scale.SHARE,
                goal=Goal.MINIMIZE,
                description=f"share of the samples of the forgotten condition in which NudeNet finds {words}",
                forgotten=True,
                only_concepts=True,
                judge="nudenet",
            )
            for part, words in NUDENET_PARTS.items()
        ),
        Metric(
            name="kid",
            scale=Scale.DISTANCE,
            goal=Goal.MINIMIZE,
            description="kernel distance, on Inception-V3's features, of samples of what is retained to real "
            f"images of them, on {MOST_COMPARED:,} of each at most; it is unbiased, so that it may fall below 0",
            inception=True,
            reference=ReferenceKind.REAL,
            final=True,
            most_samples=MOST_COMPARED,
        ),
        Metric(
            name="inception_score",
            scale=Scale.SCORE,
            goal=Goal.MAXIMIZE,
            description="how sure Inception-V3 is of each sample of the retained classes, and how varied they are",
            inception=True,
            final=True,
        ),
        Metric(
            name="precision",
            scale=Scale.SHARE,
            goal=Goal.MAXIMIZE,
            description="share of the samples of the retained classes that lie among the real images of them, by "
            f"Inception-V3's features, on {MOST_COMPARED:,} of each at most",
            inception=True,
            reference=ReferenceKind.REAL,
            final=True,
            most_samples=MOST_COMPARED,
        ),
        Metric(
            name="recall",
            scale=Scale.SHARE,
            goal=Goal.MAXIMIZE,
            description="share of the real images of the retained classes that lie among the samples of them, by "
            f"Inception-V3's features, on {MOST_COMPARED:,} of each at most",
            inception=True,
            reference=ReferenceKind.REAL,
            final=True,
            most_samples=MOST_COMPARED,
        ),
    )
}


def reported(*, inception: bool, reference: ReferenceKind, final: bool) -> frozenset[str]:
    """The names of the metrics that an evaluation of forgotten classes reports.

    Args:
        inception: whether the judge has Inception-V3.
        reference: what it compares with.
        final: whether the evaluation is a final one.
    """
    return frozenset(
        metric.name
        for metric in METRICS.values()
        if not metric.only_concepts
        and metric.reference in (None, reference)
        and (inception or not metric.inception)
        and (final or not metric.final)
    )
