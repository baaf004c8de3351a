"""A search space held against its teacher, before anything is loaded or started. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sfd_sweep.config import Override, ReferenceKind, SearchSpace
from sfd_sweep.datasets.finding import find_images
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.diffusion.model_folder import ModelFolder
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.inception_weights import describe_weights
from sfd_sweep.storage import check_location

GUIDANCE = ("guidance_scale", "fake_score_guidance_scale", "fake_score_training_guidance_scale")
BYTES = 4  # a float32
MEGABYTE = 1e6
TRAINED_COPIES = 10  # φ, θ and its average, ψ; two gradients; two moments for each of two optimisers


@dataclass(frozen=True)
class Plan:
    """What a sweep will do, with every name resolved.

    Attributes:
        space: the search space.
        teacher: its teacher.
        start: what generators start from.
        forget: indices of the forgotten classes.
    """

    space: SearchSpace
    teacher: ModelFolder
    start: ModelFolder
    forget: tuple[int, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names by index."""
        return self.teacher.class_names

    @property
    def retain(self) -> tuple[int, ...]:
        """Indices of the classes that are kept."""
        return tuple(index for index in range(len(self.class_names)) if index not in self.forget)

    @property
    def model_bytes(self) -> int:
        """Memory of one worker's networks, gradients and optimisers in bytes, without activations."""
        decoders = sum(model.vae_parameter_count for model in self._models)
        return (self.teacher.parameter_count * TRAINED_COPIES + decoders) * BYTES

    @property
    def checkpoint_bytes(self) -> int:
        """Disk of one unfinished trial in bytes: what it goes on from, and the generator's folder."""
        return self.training_state_bytes + self.generator_bytes

    @property
    def training_state_bytes(self) -> int:
        """Disk of what one trial goes on from in bytes: ψ, θ, its average, and four moments."""
        return self.teacher.parameter_count * BYTES * 7

    @property
    def generator_bytes(self) -> int:
        """Disk of one generator's folder in bytes: its network, and the autoencoder that decodes its latents."""
        return (self.start.parameter_count + self.start.vae_parameter_count) * BYTES

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
    def _models(self) -> tuple[ModelFolder, ...]:
        """Those that are loaded."""
        return tuple({model.path: model for model in (self.teacher, self.start)}.values())

    def replacements(self, override: Override) -> tuple[int, ...] | None:
        """What replaces each forgotten class (see the function of that name)."""
        return replacements(override, self.forget, self.class_names)


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


def make_plan(space: SearchSpace) -> Plan:
    """Open the teacher and the start, and check that the search space fits them.

    Raises:
        UserError: it does not; the message names the key and the remedy.
    """
    check_location(space.storage)
    teacher = ModelFolder.open(space.task.teacher)
    if teacher.reads_text:
        raise UserError(f"task.teacher: {teacher.path} makes images of prompts; give a model of classes")
    start = teacher if space.task.start == "teacher" else ModelFolder.open(space.task.start)
    forget = tuple(class_index(teacher.class_names, name) for name in space.task.forget)
    plan = Plan(space=space, teacher=teacher, start=start, forget=forget)
    _check_classes(plan)
    _check_diffusion_steps(plan)
    _check_guidance(plan)
    _check_start(plan)
    _check_reference(plan)
    _ = plan.model_bytes, plan.generator_bytes  # refuse weights that are missing or cut short
    return plan


def _possible(space: SearchSpace, name: str) -> Iterator[Any]:
    """The values that bound a parameter: its fixed value, its choices or the ends of its range, and `otherwise`."""
    searched = space.parameters.searched()
    if name not in searched:
        yield space.parameters.fixed()[name]
        return
    yield from searched[name].edges().values()


def _check_classes(plan: Plan) -> None:
    if len(set(plan.forget)) < len(plan.forget):
        raise UserError(f"task.forget: {', '.join(map(str, plan.space.task.forget))} names a class twice")
    if not plan.retain:
        raise UserError("task.forget: nothing would be left; keep one class at least")
    for override in _possible(plan.space, "override"):
        plan.replacements(override)


def _check_diffusion_steps(plan: Plan) -> None:
    steps = plan.teacher.diffusion_steps
    for name, most in (("t_min", steps - 1), ("t_init", steps - 1), ("t_max", steps)):
        for value in _possible(plan.space, name):
            if value > most:
                raise UserError(
                    f"parameters.{name}: {value} is beyond the teacher's schedule of {steps} steps ({most})"
                )


def _check_guidance(plan: Plan) -> None:
    if plan.teacher.null_label is not None:
        return
    for name in GUIDANCE:
        if any(value != 1 for value in _possible(plan.space, name)):
            raise UserError(
                f"parameters.{name}: guidance needs a null label, and {plan.teacher.path} was trained without one "
                "(its network embeds no class beyond id2label); fix it at 1"
            )


def _check_reference(plan: Plan) -> None:
    """Whether what images are compared with is there, as far as files tell."""
    evaluation = plan.space.evaluation
    if evaluation.reference_kind is ReferenceKind.REAL:
        find_images(evaluation.reference)
    elif evaluation.teacher_samples.guidance_scale != 1 and plan.teacher.null_label is None:
        raise UserError(
            f"evaluation.teacher_samples.guidance_scale: guidance needs a null label, and {plan.teacher.path} was "
            "trained without one; set it to 1"
        )
    if plan.space.wants_inception:
        describe_weights(evaluation.inception.weights)


def _check_start(plan: Plan) -> None:
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
