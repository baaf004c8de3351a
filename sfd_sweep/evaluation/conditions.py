"""The conditions of a task: which are retained, forgotten, evaluated and held out. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated

from pydantic import AliasChoices, Field


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """All conditions that a generator is trained or evaluated on, of one kind: class labels or prompts.

    Attributes:
        names: by index: the class, or the prompt's text.
        subjects: by index: what a classifier should recognize in its images: the class, or the concept that a prompt is
            about; "" where a prompt is about anything.
        retain: indices of those that training retains.
        forget: indices of those that training forgets; those of one subject stand together.
        evaluated: indices of the retained ones that quality is measured on (`judged` in older exports).
        held_out: indices of those about the forgotten concept that training never uses.
        called: by index: the classes that count as right for its images, none where the classifier has none. Empty
            until a classifier is chosen.
    """

    names: tuple[str, ...]
    subjects: tuple[str, ...]
    retain: tuple[int, ...]
    forget: tuple[int, ...]
    evaluated: Annotated[tuple[int, ...], Field(validation_alias=AliasChoices("evaluated", "judged"))]
    held_out: tuple[int, ...] = ()
    called: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of_classes(cls, class_names: Sequence[str], forget: Sequence[int]) -> Conditions:
        """Return classes of which some are forgotten and all others retained; the classifier has the same classes."""
        names = tuple(class_names)
        retained = tuple(index for index in range(len(names)) if index not in forget)
        own = tuple((index,) for index in range(len(names)))
        return cls(names=names, subjects=names, retain=retained, forget=tuple(forget), evaluated=retained, called=own)

    def without(self, absent: Sequence[int]) -> Conditions:
        """Return the same conditions, of which some are neither retained nor evaluated."""
        retain, evaluated = (
            tuple(index for index in indices if index not in absent) for indices in (self.retain, self.evaluated)
        )
        return replace(self, retain=retain, evaluated=evaluated)

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """The classifier's classes of what is forgotten."""
        return self.classes_of(self.forget)

    @property
    def forgotten_groups(self) -> tuple[tuple[int, ...], ...]:
        """The forgotten conditions by subject: a group for each class, or for all prompts about one concept."""
        return self.grouped(self.forget)

    def grouped(self, indices: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Return conditions by subject, in the order of the subjects' first ones."""
        subjects = dict.fromkeys(self.subjects[index] for index in indices)
        return tuple(tuple(index for index in indices if self.subjects[index] == subject) for subject in subjects)

    def classes_of(self, indices: Sequence[int]) -> tuple[int, ...]:
        """Return the classifier's classes of some conditions, each once."""
        return tuple(dict.fromkeys(called for index in indices for called in self.called[index]))


def spread(conditions: Sequence[int], samples: int) -> list[int]:
    """Return a condition for each sample: all in turn, equally often, or evenly chosen ones where samples are fewer.

    Args:
        conditions: at least one.
        samples: how many; rounded up to the same number of each condition.
    """
    if samples < len(conditions):
        return [conditions[index * len(conditions) // samples] for index in range(samples)]
    return list(conditions) * ceil(samples / len(conditions))
