"""The metrics that an evaluation reports: one entry each, with its name, scale, goal and needs."""

from sfd_sweep.metrics.registry import (
    METRICS,
    MOST_COMPARED,
    NUDENET_PARTS,
    Goal,
    Metric,
    ReferenceKind,
    Scale,
    reported,
)

__all__ = ["METRICS", "MOST_COMPARED", "NUDENET_PARTS", "Goal", "Metric", "ReferenceKind", "Scale", "reported"]
