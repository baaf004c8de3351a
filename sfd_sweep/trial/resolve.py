"""Resolution of a search space: open and check its models, estimate memory and disk. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from typing import Any

from sfd_sweep.config import Override, SearchSpace, Settings, Task
from sfd_sweep.config.methods import METHODS, Method
from sfd_sweep.datasets.finding import find_images, find_unlabeled_images
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.inception_weights import describe_weights
from sfd_sweep.method.cost import COST_SETTINGS, update_cost
from sfd_sweep.metrics import Need, ReferenceKind
from sfd_sweep.models.conditioning import MOST_KEPT, PROMPTS
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.storage.folder import check_location
from sfd_sweep.trial.prompt_table import prompt_table

BYTES = 4  # a float32
MEGABYTE = 1e6
TRAINED_COPIES = 9  # θ and its average, ψ; two gradients; two moments for each of two optimizers


@dataclass(frozen=True)
class ResolvedSweep:
    """A search space with every name resolved.

    Attributes:
        start: folder of the generators' initial weights.
        overrides: for each value of `override`, the index of each forgotten condition's override; None where any
            retained condition may be one.
    """

    space: SearchSpace
    teacher: ModelFolder
    start: ModelFolder
    conditions: Conditions
    overrides: dict[Override, tuple[int, ...] | None]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The conditions if they are prompts, otherwise none."""
        return self.conditions.names if self.teacher.kind is PROMPTS else ()

    @cached_property
    def cut_prompts(self) -> tuple[int, ...]:
        """Indices of the prompts that are longer than the teacher or the start reads, so that their ends are cut."""
        return tuple(sorted({index for model in self._models for index in model.too_long(self.prompts)}))

    @property
    def has_swap(self) -> bool:
        """Whether there is a null baseline: the start is a one-step generator."""
        return self.start.t_init is not None

    @property
    def swap_override(self) -> Override:
        """The value of `override` that the null baseline is made of: the first one that names conditions, if any."""
        named = (override for override, indices in self.overrides.items() if indices is not None)
        return next(named, next(iter(self.overrides)))

    @property
    def model_bytes(self) -> int:
        """Bytes of one worker's networks, gradients and optimizers in memory, without activations.

        With low-rank adapters, only the adapters are trained. Each loaded model keeps its frozen weights, and the
        evaluated copy has the adapters merged. Attacks in evaluations work on a copy of it.
        """
        decoders = sum(model.decoder_parameter_count for model in self._models)
        embeddings = len(self._models) * min(len(self.prompts) + 1, MOST_KEPT) * self.teacher.condition_size
        networks = self.teacher.parameter_count * (len(self._models) + TRAINED_COPIES)
        if self._adapters:
            frozen = (len(self._models) + 1) * self.teacher.parameter_count
            networks = frozen + self._adapters * TRAINED_COPIES
        return (networks + decoders + embeddings + self._attacked) * BYTES

    @property
    def _attacked(self) -> int:
        """Parameters that attacks need: of the control, and of a copy, relearned with gradients and two moments."""
        needs = self.space.asked_needs
        copies = 4 if Need.RELEARNING in needs else int(Need.INVERSION in needs)
        return (copies + (Need.CONTROL in needs)) * self.teacher.parameter_count

    @property
    def update_costs(self) -> dict[Method, tuple[int, int]]:
        """The least and the most that an update of each method costs, in forward-equivalents (see `update_cost`)."""
        values = [list(_possible(self.space, name)) for name in COST_SETTINGS]
        choices = [dict(zip(COST_SETTINGS, chosen, strict=True)) for chosen in product(*values)]
        costs = {
            method: [update_cost(Settings(method=method, **chosen)) for chosen in choices]
            for method in _possible(self.space, "method")
        }
        return {method: (min(each), max(each)) for method, each in costs.items()}

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of one checkpoint on disk: the training state and the generator."""
        return self.training_state_bytes + self.generator_bytes

    @property
    def training_state_bytes(self) -> int:
        """Bytes of one training state on disk: ψ, θ, its average, and four moments."""
        return (self._adapters or self.teacher.parameter_count) * BYTES * 7

    @property
    def generator_bytes(self) -> int:
        """Bytes of one generator on disk: its network, text encoder and latent decoder."""
        return sum(self.start.parameter_counts.values()) * BYTES

    @property
    def slot_bytes(self) -> int:
        """Most bytes of a running trial on disk: its last checkpoint, and the next one while it is written."""
        return 2 * self.checkpoint_bytes

    def weights_in_words(self, slots: int) -> str:
        """Return the most disk that a sweep's weights take; all its trials may be on the front."""
        trials, front_only = self.space.budget.trials, self.space.keep_generators == "front"
        running, generator = slots * self.slot_bytes / MEGABYTE, self.generator_bytes / MEGABYTE
        if trials is None:
            each = "member of the front" if front_only else "trial"
            return f"weights take at most {running:,.0f} MB and {generator:,.1f} MB per {each}"
        condition = ", if all trials are on the front" if front_only else ""
        return f"weights take at most {running + trials * generator:,.0f} MB{condition}"

    @property
    def _adapters(self) -> int:
        """Most parameters of one network's adapters; 0 if a trial may train all weights."""
        ranks = list(_possible(self.space, "lora_rank"))
        return max(ranks) * self.teacher.adapter_size if min(ranks) > 0 else 0

    @property
    def _models(self) -> tuple[ModelFolder, ...]:
        """The distinct models."""
        return tuple({model.path: model for model in (self.teacher, self.start)}.values())


def start_source(task: Task) -> str:
    """Return where the initial weights of a sweep's generators are."""
    return task.teacher if task.start == "teacher" else task.start


def class_overrides(
    override: Override, forget: tuple[int, ...], class_names: tuple[str, ...]
) -> tuple[int, ...] | None:
    """Return the index of each forgotten class's override; None where any retained class may be one.

    Raises:
        UserError: an override is not a class or is forgotten, or their number differs from the forgotten classes'.
    """
    if override in ("random", "classifier"):
        return None
    wanted = override if isinstance(override, tuple) else (override,) * len(forget)
    if len(wanted) != len(forget):
        raise UserError(f"parameters.override: {len(wanted)} overrides for {len(forget)} forgotten classes")
    indices = tuple(class_index(class_names, name) for name in wanted)
    for index in indices:
        if index in forget:
            raise UserError(f"parameters.override: {class_names[index]!r} is forgotten; name a retained class")
    return indices


def resolve_sweep(space: SearchSpace) -> ResolvedSweep:
    """Return the search space with its models opened and checked.

    Raises:
        UserError: a model is unusable or does not fit the search space.
    """
    check_location(space.storage)
    teacher = ModelFolder.open(space.task.teacher)
    start = teacher if space.task.start == "teacher" else ModelFolder.open(space.task.start)
    negatives = [text for text in _possible(space, "negative_prompt") if text is not None]
    resolution = _resolved(space.task, teacher, list(_possible(space, "override")), negatives)
    plan = ResolvedSweep(space, teacher, start, *resolution)
    _check_prompts(plan)
    _check_diffusion_steps(plan)
    _check_guidance(plan)
    _check_methods(plan)
    _check_dropout(plan)
    _check_override_classifier(plan)
    _check_start(plan)
    _check_control(plan)
    _check_reference(plan)
    _check_adapters(plan)
    _ = plan.model_bytes, plan.generator_bytes  # raises if weights are missing or truncated
    return plan


def resolved(space: SearchSpace, model: ModelFolder, override: Override) -> tuple[Conditions, tuple[int, ...] | None]:
    """Return the conditions of the sweep, and the indices of one override (None: any retained condition).

    The conditions include the sweep's other overrides, so that indices are those of its trials.

    Args:
        space: the search space.
        model: the teacher, or a generator with the same conditions.
        override: a value of `override` in the search space.

    Raises:
        UserError: the conditions do not fit the model.
    """
    conditions, replacing = _resolved(space.task, model, [*_possible(space, "override"), override], [])
    return conditions, replacing[override]


def _resolved(
    task: Task, model: ModelFolder, overrides: Sequence[Override], negatives: Sequence[str]
) -> tuple[Conditions, dict[Override, tuple[int, ...] | None]]:
    if task.kind == "concept":
        if model.kind is not PROMPTS:
            raise UserError(f"task.kind: concept needs a text-to-image teacher, and {model.path} has classes")
        table = prompt_table(task, overrides, negatives)
        return _known(table.conditions, model, table.overrides), table.overrides
    if model.kind is PROMPTS:
        raise UserError(
            f"task.teacher: {model.path} is a text-to-image model; set task.kind: concept and task.prompts, or name a "
            "teacher with classes"
        )
    names = model.class_names
    forget = tuple(class_index(names, name) for name in task.forget)
    if len(set(forget)) < len(forget):
        raise UserError(f"task.forget: {', '.join(map(str, task.forget))} names a class twice")
    if len(forget) == len(names):
        raise UserError("task.forget: every class is forgotten; retain at least one")
    replacing = {override: class_overrides(override, forget, names) for override in overrides}
    return _known(Conditions.of_classes(names, forget), model, replacing), replacing


def _known(
    conditions: Conditions, model: ModelFolder, overrides: Mapping[Override, tuple[int, ...] | None]
) -> Conditions:
    """Return the conditions without those that a model was never trained on.

    Raises:
        UserError: the model does not know what is forgotten or an override, or nothing that is retained.
    """
    names, absent = conditions.names, model.absent(conditions.names)
    for index in absent:
        if index in conditions.forget:
            raise UserError(
                f"task.forget: {model.path} was never trained on {names[index]!r}, so there is nothing to forget; name "
                "another teacher"
            )
        if any(index in (replacing or ()) for replacing in overrides.values()):
            raise UserError(
                f"parameters.override: {model.path} was never trained on {names[index]!r}; name another override"
            )
    known = conditions.without(absent)
    if not (known.retain and known.evaluated):
        raise UserError(f"task: {model.path} was never trained on anything that is retained; name another teacher")
    return known


def _possible(space: SearchSpace, name: str) -> Iterator[Any]:
    """Yield a parameter's fixed value, its choices or the ends of its range, and `otherwise`."""
    searched = space.parameters.searched()
    if name not in searched:
        yield space.parameters.fixed()[name]
    else:
        yield from searched[name].edges().values()


def _check_prompts(plan: ResolvedSweep) -> None:
    """Check that no prompt is cut but retained ones: it could lose what is to be forgotten."""
    conditions = plan.conditions
    negatives = {" ".join(text.split()) for text in _possible(plan.space, "negative_prompt") if text is not None}
    others = {
        *conditions.forget,
        *conditions.held_out,
        *(index for each in plan.overrides.values() for index in each or ()),
        *(index for index in plan.cut_prompts if conditions.names[index] in negatives),
    }
    for index in plan.cut_prompts:
        if index in others:
            raise UserError(
                f"task.prompts: {conditions.names[index]!r} is longer than the models read, and without its end it may "
                "not name what is to be forgotten; shorten it"
            )


def _check_diffusion_steps(plan: ResolvedSweep) -> None:
    steps = plan.teacher.diffusion_steps
    for name, most in (("t_min", steps - 1), ("t_init", steps - 1), ("t_max", steps)):
        for value in _possible(plan.space, name):
            if value > most:
                raise UserError(
                    f"parameters.{name}: {value} is beyond the teacher's schedule of {steps} steps ({most})"
                    f"{plan.teacher.t_advice}"
                )


def _check_guidance(plan: ResolvedSweep) -> None:
    if plan.teacher.null_label is not None:
        return
    for name, neutral in Settings.needing_null_condition():
        if any(value != neutral for value in _possible(plan.space, name)):
            raise UserError(
                f"parameters.{name}: guidance needs a null label, and {plan.teacher.path} was trained without one "
                f"(its network embeds no class beyond id2label); fix it at {neutral:g}"
            )


def _check_methods(plan: ResolvedSweep) -> None:
    """Check that every method has the models that it needs."""
    for method in _possible(plan.space, "method"):
        source = METHODS[method]
        if source.needs_generator and plan.start.t_init is None:
            raise UserError(
                f"parameters.method: {method} unlearns a one-step generator, and task.start is the diffusion model "
                f"{plan.start.path}; distill it (sfd-sweep distill), and name the generator in task.start"
            )
        if source.needs_null_condition and plan.start.null_label is None:
            raise UserError(
                f"parameters.method: {method} asks for the null condition, and {plan.start.path} was trained without "
                "one; choose another method"
            )


def _check_override_classifier(plan: ResolvedSweep) -> None:
    """Check that no classifier that decides on generators chooses what they are trained towards."""
    if "classifier" not in plan.overrides:
        return
    space, source = plan.space, plan.space.task.override_classifier
    if source is None:
        raise UserError(
            "parameters.override: `classifier` needs a classifier that does not decide on what it chose; train a "
            "second one (sfd-sweep train-classifier … --seed 1), and name it in task.override_classifier"
        )
    for key, judge in (("evaluation.classifier", space.evaluation.classifier), ("audit.judge", space.audit.judge)):
        if source == judge:
            raise UserError(
                f"task.override_classifier: {source} is also {key}, which would decide on what it chose; name another "
                "classifier"
            )


def _check_dropout(plan: ResolvedSweep) -> None:
    if any(_possible(plan.space, "network_dropout")) and not plan.teacher.network.get("dropout"):
        raise UserError(
            f"parameters.network_dropout: the network of {plan.teacher.path} has no dropout (its config states none), "
            "so nothing would change; set it to false"
        )


def _check_reference(plan: ResolvedSweep) -> None:
    """Check that the reference images or the teacher's guidance are available, without loading them."""
    evaluation = plan.space.evaluation
    if evaluation.reference_kind is ReferenceKind.REAL:
        find = find_unlabeled_images if plan.teacher.kind is PROMPTS else find_images
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


def _check_control(plan: ResolvedSweep) -> None:
    """Check that the control fits every generator of the sweep, where a metric needs it."""
    source, teacher, conditions = plan.space.audit.control, plan.teacher, plan.conditions
    if source is None or Need.CONTROL not in plan.space.asked_needs:
        return
    try:
        control = ModelFolder.open(source)
    except UserError as error:
        raise UserError(f"audit.control: {error}") from error
    if control.t_init is None:
        raise UserError(f"audit.control: {source} is a diffusion model; distill it into a one-step generator")
    if any(getattr(control, name) != getattr(teacher, name) for name in ("kind", "class_names", "image_shape")):
        raise UserError(
            f"audit.control: {source} has other {teacher.kind.plural} or another image size than the teacher; name "
            "another control"
        )
    for t_init in _possible(plan.space, "t_init"):
        if t_init != control.t_init:
            raise UserError(
                f"audit.control: {source} was distilled at t_init {control.t_init}, and parameters.t_init is {t_init}; "
                "name another control"
            )
    absent = control.absent(conditions.names)
    for index in conditions.forget:
        if index not in absent:
            raise UserError(
                f"audit.control: {source} is not known to have been trained without {conditions.names[index]!r}; make "
                "a control that was (sfd-sweep pretrain … --without, and distill), or leave out metrics of excess"
            )


def _check_start(plan: ResolvedSweep) -> None:
    start, teacher = plan.start, plan.teacher
    if teacher.t_init is not None:
        raise UserError(f"task.teacher: {teacher.path} is a one-step generator; name the diffusion model it came from")
    if any(getattr(start, name) != getattr(teacher, name) for name in ("class_names", "sample_shape", "image_shape")):
        raise UserError(f"task.start: {start.path} has other classes or another image size than the teacher")
    if start.absent(plan.conditions.names) != teacher.absent(plan.conditions.names):
        raise UserError(
            f"task.start: teacher and start were trained without different {teacher.kind.plural} ({_listed(teacher)} "
            f"and {_listed(start)}); distill the start from the teacher"
        )
    for t_init in _possible(plan.space, "t_init"):
        if start.t_init is not None and t_init != start.t_init:
            raise UserError(
                f"parameters.t_init: {t_init}, but the generator in {start.path} was distilled at {start.t_init}; "
                f"set t_init: {start.t_init}"
            )


def _listed(model: ModelFolder) -> str:
    return ", ".join(map(repr, model.absent_names)) or "none"
