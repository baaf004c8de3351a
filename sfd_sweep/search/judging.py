"""What the figures of two sweeps must have in common, so that they can be compared."""

from collections.abc import Set
from typing import Any

from sfd_sweep.config import SearchSpace
from sfd_sweep.metrics import Need, ReferenceKind
from sfd_sweep.metrics.definition import ATTACKS

COUNTED = ("samples", "forget_samples", "classifier", "concepts", "class_of", "clip", "reference")
"""Keys of `evaluation` that every figure rests on."""


def judging(space: SearchSpace, needs: Set[Need]) -> dict[str, Any]:
    """Return how a sweep judges its trials, by key of its file; what does not matter is left empty.

    Args:
        space: the sweep.
        needs: what the compared metrics need.
    """
    task, evaluation, audit = space.task, space.evaluation, space.audit
    of_teacher, attacked = evaluation.reference_kind is ReferenceKind.TEACHER, bool(needs & ATTACKS)
    return {
        "task.kind": task.kind,
        "task.forget": task.forget,
        "task.prompts": task.prompts,
        **{f"evaluation.{name}": getattr(evaluation, name) for name in COUNTED},
        "evaluation.teacher_samples": evaluation.teacher_samples if of_teacher else None,
        "evaluation.inception.mode": evaluation.inception.mode if Need.INCEPTION in needs else None,
        "audit.judge": audit.judge if attacked else None,
        "audit.concepts": audit.concepts if attacked else (),
        "audit.class_of": audit.class_of if attacked else {},
        "audit.control": audit.control if Need.CONTROL in needs else None,
    }


def in_words(value: Any) -> str:
    """Return the value of a key for a message."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
