"""The metrics that an evaluation reports, each one entry of `registry`: name, scale, goal, needs and function."""

from sfd_sweep.metrics.definition import MOST_COMPARED, Goal, Metric, Need, ReferenceKind, Scale, samples_in_words
from sfd_sweep.metrics.registry import METRICS, NUDENET_PARTS, reported

__all__ = [
    "METRICS",
    "MOST_COMPARED",
    "NUDENET_PARTS",
    "Goal",
    "Metric",
    "Need",
    "ReferenceKind",
    "Scale",
    "reported",
    "samples_in_words",
]
