"""The conditions of a task: which are kept, which are forgotten, and which of them a generator is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """All that a generator is trained on or judged by, of one kind: classes, or prompts. Imports no torch.

    Attributes:
        names: by index: the class, or the prompt's text.
        subjects: by index: what a judge should see in its images. That is the class, or the concept that a prompt is
            about; "" where a prompt is about anything.
        retain: indices of those that training keeps.
        forget: indices of those that training forgets; those of one subject stand together.
        judged: indices of those that are kept and that quality is measured on.
        held_out: indices of those that are about what is forgotten, and that training never sees.
        called: by index: the classes that a judge may call its images by, none where it has no word for them. Empty
            until a judge is chosen.
    """

    names: tuple[str, ...]
    subjects: tuple[str, ...]
    retain: tuple[int, ...]
    forget: tuple[int, ...]
    judged: tuple[int, ...]
    held_out: tuple[int, ...] = ()
    called: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of_classes(cls, class_names: Sequence[str], forget: Sequence[int]) -> Conditions:
        """Classes, of which some are forgotten and all others kept and judged; a judge has the same classes."""
        names = tuple(class_names)
        kept = tuple(index for index in range(len(names)) if index not in forget)
        own = tuple((index,) for index in range(len(names)))
        return cls(names=names, subjects=names, retain=kept, forget=tuple(forget), judged=kept, called=own)

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """The classes that a judge calls what is forgotten by."""
        return tuple(dict.fromkeys(called for index in self.forget for called in self.called[index]))

    @property
    def forgotten_groups(self) -> tuple[tuple[int, ...], ...]:
        """The forgotten conditions by subject: one each for classes, and the prompts of one concept together."""
        subjects = dict.fromkeys(self.subjects[index] for index in self.forget)
        return tuple(tuple(index for index in self.forget if self.subjects[index] == subject) for subject in subjects)


def spread(conditions: Sequence[int], samples: int) -> list[int]:
    """A condition for each sample: all of them in turn, equally often, or evenly chosen ones where samples are fewer.

    Args:
        conditions: at least one.
        samples: how many there are to be, rounded up to the same number of each condition.
    """
    if samples < len(conditions):
        return [conditions[index * len(conditions) // samples] for index in range(samples)]
    return list(conditions) * ceil(samples / len(conditions))
