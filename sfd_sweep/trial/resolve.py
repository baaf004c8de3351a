"""A search space held against its teacher, before anything is loaded or started. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from sfd_sweep.config import Override, SearchSpace, Task
from sfd_sweep.datasets.finding import find_images, find_unlabelled_images
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.inception_weights import describe_weights
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.storage.folder import check_location
from sfd_sweep.trial.prompt_table import prompt_table

WITHOUT_GUIDANCE = {
    "guidance_scale": 1,
    "fake_score_guidance_scale": 1,
    "fake_score_training_guidance_scale": 1,
    "condition_dropout": 0,
}
BYTES = 4  # a float32
MEGABYTE = 1e6
TRAINED_COPIES = 10  # φ, θ and its average, ψ; two gradients; two moments for each of two optimisers


@dataclass(frozen=True)
class ResolvedSweep:
    """What a sweep will do, with every name resolved.

    Attributes:
        space: the search space.
        teacher: its teacher.
        start: what generators start from.
        conditions: what is kept, forgotten and judged.
        replacements: index of what replaces each forgotten condition, by the override; None where any retained may.
    """

    space: SearchSpace
    teacher: ModelFolder
    start: ModelFolder
    conditions: Conditions
    replacements: dict[Override, tuple[int, ...] | None]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The conditions, if they are prompts, for loading models with; otherwise none."""
        return self.conditions.names if self.teacher.reads_text else ()

    @property
    def model_bytes(self) -> int:
        """Memory of one worker's networks, gradients and optimisers in bytes, without activations.

        With low-rank adapters, these are what is trained, on one set of weights for each model that is loaded, and
        beside them is the copy with adapters merged that is judged.
        """
        decoders = sum(model.vae_parameter_count for model in self._models)
        embeddings = len(self._models) * (len(self.prompts) + 1) * self.teacher.prompt_size
        networks = self.teacher.parameter_count * TRAINED_COPIES
        if self._adapters:
            frozen = (len(self._models) + 1) * self.teacher.parameter_count
            networks = frozen + self._adapters * (TRAINED_COPIES - 1)
        return (networks + decoders + embeddings) * BYTES

    @property
    def checkpoint_bytes(self) -> int:
        """Disk of one unfinished trial in bytes: what it goes on from, and the generator's folder."""
        return self.training_state_bytes + self.generator_bytes

    @property
    def training_state_bytes(self) -> int:
        """Disk of what one trial goes on from in bytes: ψ, θ, its average, and four moments."""
        return (self._adapters or self.teacher.parameter_count) * BYTES * 7

    @property
    def generator_bytes(self) -> int:
        """Disk of one generator's folder in bytes: its network, its text encoder, and what decodes its latents."""
        start = self.start
        return (start.parameter_count + start.vae_parameter_count + start.text_encoder_parameter_count) * BYTES

    @property
    def slot_bytes(self) -> int:
        """Most disk of a slot's trial in bytes: its last checkpoint, and beside it the next while it is written."""
        return 2 * self.checkpoint_bytes

    def weights_in_words(self, slots: int) -> str:
        """Most disk that a sweep's weights take on so many slots: all of its trials may be on the front."""
        trials, running = self.space.budget.trials, slots * self.slot_bytes / MEGABYTE
        if trials is None:
            each = "a member of the front" if self.space.keep_generators == "front" else "a trial"
            return f"weights take at most {running:,.0f} MB and {self.generator_bytes / MEGABYTE:,.1f} MB {each}"
        most = running + trials * self.generator_bytes / MEGABYTE
        return f"weights take at most {most:,.0f} MB" + (
            ", were all on the front" if self.space.keep_generators == "front" else ""
        )

    @property
    def _adapters(self) -> int:
        """Most numbers in the adapters of one network; 0 where some trials train all weights."""
        ranks = list(_possible(self.space, "lora_rank"))
        return max(ranks) * self.teacher.adapter_size if min(ranks) > 0 else 0

    @property
    def _models(self) -> tuple[ModelFolder, ...]:
        """Those that are loaded."""
        return tuple({model.path: model for model in (self.teacher, self.start)}.values())


def replacements(override: Override, forget: tuple[int, ...], class_names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The index that replaces each forgotten class; None where any retained class may (`random`, `classifier`).

    Args:
        override: as a search-space file has it.
        forget: indices of the forgotten classes.
        class_names: by index.

    Raises:
        UserError: the override is no class, or is forgotten itself, or there is not one for each forgotten class.
    """
    if override in ("random", "classifier"):
        return None
    wanted = override if isinstance(override, tuple) else (override,) * len(forget)
    if len(wanted) != len(forget):
        raise UserError(f"parameters.override: {len(wanted)} overrides for {len(forget)} forgotten classes")
    indices = tuple(class_index(class_names, name) for name in wanted)
    for index in indices:
        if index in forget:
            raise UserError(
                f"parameters.override: {class_names[index]!r} is forgotten itself; name a class that is kept"
            )
    return indices


def resolve_sweep(space: SearchSpace) -> ResolvedSweep:
    """Open the teacher and the start, and check that the search space fits them.

    Raises:
        UserError: it does not; the message names the key and the remedy.
    """
    check_location(space.storage)
    teacher = ModelFolder.open(space.task.teacher)
    start = teacher if space.task.start == "teacher" else ModelFolder.open(space.task.start)
    negatives = [text for text in _possible(space, "negative_prompt") if text is not None]
    resolution = _resolved(space.task, teacher, list(_possible(space, "override")), negatives)
    plan = ResolvedSweep(space, teacher, start, *resolution)
    _check_diffusion_steps(plan)
    _check_guidance(plan)
    _check_start(plan)
    _check_reference(plan)
    _check_adapters(plan)
    _ = plan.model_bytes, plan.generator_bytes  # refuse weights that are missing or cut short
    return plan


def resolved(space: SearchSpace, model: ModelFolder, override: Override) -> tuple[Conditions, tuple[int, ...] | None]:
    """What is kept and forgotten, and what replaces it under one override; None where any retained condition may.

    Conditions are all those of the sweep, as other overrides are classes of a judge that is told them.

    Args:
        space: which names it.
        model: the teacher, or a generator of the same conditions.
        override: one of the search space's.

    Raises:
        UserError: the model has nothing by such a name.
    """
    conditions, replacing = _resolved(space.task, model, [*_possible(space, "override"), override], [])
    return conditions, replacing[override]


def _resolved(
    task: Task, model: ModelFolder, overrides: Sequence[Override], negatives: Sequence[str]
) -> tuple[Conditions, dict[Override, tuple[int, ...] | None]]:
    if task.kind == "concept":
        if not model.reads_text:
            raise UserError(f"task.kind: concept needs a text-to-image teacher, and {model.path} is one of classes")
        table = prompt_table(task, overrides, negatives)
        return table.conditions, table.replacements
    if model.reads_text:
        raise UserError(
            f"task.teacher: {model.path} makes images of prompts; write task.kind: concept and task.prompts, or give a "
            "model of classes"
        )
    names = model.class_names
    forget = tuple(class_index(names, name) for name in task.forget)
    if len(set(forget)) < len(forget):
        raise UserError(f"task.forget: {', '.join(map(str, task.forget))} names a class twice")
    if len(forget) == len(names):
        raise UserError("task.forget: nothing would be left; keep one class at least")
    replacing = {override: replacements(override, forget, names) for override in overrides}
    return Conditions.of_classes(names, forget), replacing


def _possible(space: SearchSpace, name: str) -> Iterator[Any]:
    """The values that bound a parameter: its fixed value, its choices or the ends of its range, and `otherwise`."""
    searched = space.parameters.searched()
    if name not in searched:
        yield space.parameters.fixed()[name]
        return
    yield from searched[name].edges().values()


def _check_diffusion_steps(plan: ResolvedSweep) -> None:
    steps = plan.teacher.diffusion_steps
    for name, most in (("t_min", steps - 1), ("t_init", steps - 1), ("t_max", steps)):
        for value in _possible(plan.space, name):
            if value > most:
                raise UserError(
                    f"parameters.{name}: {value} is beyond the teacher's schedule of {steps} steps ({most})"
                )


def _check_guidance(plan: ResolvedSweep) -> None:
    if plan.teacher.null_label is not None:
        return
    for name, without in WITHOUT_GUIDANCE.items():
        if any(value != without for value in _possible(plan.space, name)):
            raise UserError(
                f"parameters.{name}: guidance needs a null label, and {plan.teacher.path} was trained without one "
                f"(its network embeds no class beyond id2label); fix it at {without}"
            )


def _check_reference(plan: ResolvedSweep) -> None:
    """Whether what images are compared with is there, as far as files tell."""
    evaluation = plan.space.evaluation
    if evaluation.reference_kind is ReferenceKind.REAL:
        find = find_unlabelled_images if plan.teacher.reads_text else find_images
        find(evaluation.reference)
    elif evaluation.teacher_samples.guidance_scale != 1 and plan.teacher.null_label is None:
        raise UserError(
            f"evaluation.teacher_samples.guidance_scale: guidance needs a null label, and {plan.teacher.path} was "
            "trained without one; set it to 1"
        )
    if plan.space.wants_inception:
        describe_weights(evaluation.inception.weights)


def _check_adapters(plan: ResolvedSweep) -> None:
    if any(_possible(plan.space, "lora_rank")) and find_spec("peft") is None:
        raise UserError(
            "parameters.lora_rank: adapters need peft, which is not installed: pip install 'sfd-sweep[lora]'"
        )


def _check_start(plan: ResolvedSweep) -> None:
    start, teacher = plan.start, plan.teacher
    if teacher.t_init is not None:
        raise UserError(f"task.teacher: {teacher.path} is a one-step generator; name the diffusion model it came from")
    if any(getattr(start, name) != getattr(teacher, name) for name in ("class_names", "sample_shape", "image_shape")):
        raise UserError(f"task.start: {start.path} has other classes or another image size than the teacher")
    for t_init in _possible(plan.space, "t_init"):
        if start.t_init is not None and t_init != start.t_init:
            raise UserError(
                f"parameters.t_init: {t_init}, but the generator in {start.path} was distilled at {start.t_init}; "
                f"set t_init: {start.t_init}"
            )
