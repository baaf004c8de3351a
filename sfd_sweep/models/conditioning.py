"""Conditions of a model: class labels or prompts, what the network is given for them, and the words for them.

This module imports no torch, so the command line describes a model at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sfd_sweep.datasets.labels import class_index

if TYPE_CHECKING:
    import torch
    from torch import Tensor


ABSENT = "absent"
"""Entry of `model_index.json` with what a model was never trained on: {"classes": [INDEX, …]} or
{"concepts": [NAME, …]}. It is an object, since diffusers takes a list for a component."""


@dataclass(frozen=True)
class ConditionKind:
    """What one condition is, in the words of messages, model cards, pipelines and signatures.

    Attributes:
        task_kind: `task.kind` in a search-space file.
        plural: several conditions.
        argument: keyword of the conditions in a call of the exported pipeline.
        column: name and MLflow type of the conditions in a data frame of requests.
        examples: two conditions, for the signature of a model.
        adjective: kind of the generator, as in "a one-step, text-to-image generator".
        pipeline_tag: task of the model on the Hugging Face hub.
        libraries: packages beside diffusers and torch that the exported pipeline imports.
    """

    task_kind: str
    plural: str
    argument: str
    column: tuple[str, str]
    examples: tuple[Any, Any]
    adjective: str
    pipeline_tag: str
    libraries: tuple[str, ...]


CLASSES = ConditionKind(
    task_kind="class",
    plural="classes",
    argument="labels",
    column=("label", "long"),
    examples=(0, 1),
    adjective="class-conditional image",
    pipeline_tag="unconditional-image-generation",
    libraries=(),
)
PROMPTS = ConditionKind(
    task_kind="concept",
    plural="prompts",
    argument="prompt",
    column=("prompt", "string"),
    examples=("a photo of a cat", "a drawing of a house"),
    adjective="text-to-image",
    pipeline_tag="text-to-image",
    libraries=("transformers",),
)
CONDITION_KINDS = {kind.task_kind: kind for kind in (CLASSES, PROMPTS)}
"""By `task.kind`."""


MOST_KEPT = 4096
"""Embedded prompts that a model keeps at most; those of further prompts are made when they are asked for."""


class Conditioning(ABC):
    """The conditions of a loaded model by index. All copies of the model share it.

    Attributes:
        kind: what a condition is.
        names: names of the classes, or the prompts.
        null: index of the null condition; None if the network has none.
        absent: indices of the conditions that the model was never trained on, ascending.
    """

    kind: ClassVar[ConditionKind]
    names: tuple[str, ...]
    null: int | None
    absent: tuple[int, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Conditioning:
        return self

    @property
    def present(self) -> tuple[int, ...]:
        """Indices of the conditions that the model was trained on."""
        return tuple(index for index in range(len(self.names)) if index not in self.absent)

    def equals(self, other: Conditioning) -> bool:
        """Return whether a network is given the same for every condition, so that models may share one of both."""
        return self is other

    @abstractmethod
    def arguments(self, c: Tensor) -> dict[str, Tensor]:
        """Return the keyword arguments of a forward pass for condition indices c, (n,)."""

    @abstractmethod
    def select(self, wanted: Sequence[int | str], device: torch.device) -> tuple[Conditioning, list[int]]:
        """Return a conditioning that has the wanted conditions, and the index of each.

        Raises:
            UserError: the model has no such condition.
        """

    @abstractmethod
    def save(self, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
        """Write what a model folder needs of it, and return its entries of `model_index.json`."""


class ClassLabels(Conditioning):
    """Classes as conditions. If the network has a null label, it is the index after the last class.

    Args:
        names: of the classes, by index.
        has_null: whether the network has a null label.
        absent: indices of the classes that the model was never trained on.
    """

    kind = CLASSES

    def __init__(self, names: Sequence[str], *, has_null: bool = True, absent: Sequence[int] = ()) -> None:
        self.names = tuple(names)
        self.null = len(self.names) if has_null else None
        self.absent = tuple(sorted(absent))

    def arguments(self, c: Tensor) -> dict[str, Tensor]:
        return {"class_labels": c}

    def select(self, wanted: Sequence[int | str], device: torch.device) -> tuple[Conditioning, list[int]]:  # noqa: ARG002
        return self, [class_index(self.names, each) for each in wanted]

    def save(self, folder: Path, dtype: torch.dtype) -> dict[str, Any]:  # noqa: ARG002
        labels = {"id2label": {str(label): name for label, name in enumerate(self.names)}}
        return labels | ({ABSENT: {"classes": list(self.absent)}} if self.absent else {})
