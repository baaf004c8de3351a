"""What a sweep would do, in words: the plan that `--dry-run` prints."""

from __future__ import annotations

from collections.abc import Sequence

from sfd_sweep.cli.tables import bounds, console, pairs
from sfd_sweep.config import Constraint, Objective, SearchSpace
from sfd_sweep.datasets.finding import describe, describe_unlabelled
from sfd_sweep.evaluation.inception_weights import describe_weights
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import below
from sfd_sweep.tracking.store import resolve_uri
from sfd_sweep.trial.resolve import MEGABYTE, ResolvedSweep


def print_plan(plan: ResolvedSweep, earlier: Sequence[str]) -> None:
    """The plan, section by section.

    Args:
        earlier: what it takes over from earlier sweeps, in words.
    """
    parameters, space = plan.space.parameters, plan.space
    _section("models", [*_models(plan)])
    _section("work", [*_work(plan)])
    _section("searched", [(name, drawn.in_words()) for name, drawn in parameters.searched().items()])
    _section("earlier sweeps", [("", line) for line in earlier])
    _section("fixed", list(parameters.fixed().items()))
    _section("objectives", [(part.metric, _objective(part)) for part in space.objectives])
    _section("constraints", [(part.metric, bounds(part.min, part.max) + _error(part)) for part in space.constraints])
    _section("places", [*_places(plan)])
    console.print("This was a dry run: nothing was started or written.")


def _section(title: str, values: list[tuple[str, object]]) -> None:
    if values:
        console.print(title, style="bold underline")
        console.print(pairs(values))
        console.print()


def _models(plan: ResolvedSweep) -> list[tuple[str, object]]:
    teacher, task, evaluation = plan.teacher, plan.space.task, plan.space.evaluation
    size, latent = ("×".join(map(str, shape)) for shape in (teacher.image_shape, teacher.sample_shape))
    latents = "" if teacher.vae is None else f" by latents of {latent}"
    null = "no null label" if teacher.null_label is None else "a null label"
    return [
        ("teacher", f"{task.teacher} ({teacher.path})"),
        ("", f"{teacher.parameter_count:,} parameters, {size} pixels{latents}, {null}"),
        ("", f"{teacher.prediction_type} at {teacher.diffusion_steps} diffusion steps"),
        ("start", f"{task.start} ({plan.start.path})"),
        *_conditions(plan),
        ("judge", evaluation.classifier),
        *_reference(plan),
    ]


def _conditions(plan: ResolvedSweep) -> list[tuple[str, object]]:
    """What is forgotten and kept: classes by name, prompts by number and the first of them."""
    told = plan.conditions
    if not plan.prompts:
        names = {"forgets": told.forget, "retains": told.retain}
        return [(key, ", ".join(told.names[index] for index in indices)) for key, indices in names.items()]
    prompts = {"forgets": told.forget, "retains": told.retain, "held out": told.held_out}
    if told.judged != told.retain:
        prompts["quality on"] = told.judged
    return [
        (key, f"{len(indices):,} prompts, the first: {told.names[indices[0]]}")
        for key, indices in prompts.items()
        if indices
    ]


def _reference(plan: ResolvedSweep) -> list[tuple[str, object]]:
    """What generated images are compared with, and on whose features."""
    evaluation = plan.space.evaluation
    recipe = evaluation.teacher_samples
    rows: list[tuple[str, object]] = []
    if evaluation.reference_kind is ReferenceKind.TEACHER:
        made = f"{recipe.steps} steps of DDIM, guidance {recipe.guidance_scale:g}"
        rows.append(("reference", f"{recipe.samples:,} samples of the teacher, {made}; no real image is read"))
    else:
        described = describe_unlabelled if plan.teacher.reads_text else describe
        rows.append(("real images", described(evaluation.reference)))
    if plan.prompts:
        overrides = f"{recipe.override_samples:,} samples of the teacher for each of {len(plan.replacements)}"
        rows.append(("overrides", f"{overrides}, and some of what is forgotten, which the judge must see"))
        rows.append(("CLIP score", evaluation.clip or "none"))
    if plan.space.wants_inception:
        rows.append(("Inception-V3", f"{describe_weights(evaluation.inception.weights)}, {evaluation.inception.mode}"))
    return rows


def _work(plan: ResolvedSweep) -> list[tuple[str, object]]:
    space, evaluation, resources = plan.space, plan.space.evaluation, plan.space.resources
    milestones, each = space.trial.milestones(), _images(plan)
    networks = "the judge and Inception-V3" if space.wants_inception else "the judge"
    final = f"; the front once more on {evaluation.final_samples:,}" if evaluation.final_samples else ""
    return [
        ("search", f"sampler {space.search.sampler}, {_scheduler(space)}{_at_random(space)}"),
        ("budget", f"{space.budget}; trials that run when it is used up go on to their end"),
        ("a trial", f"{space.trial.steps} updates, evaluated after {', '.join(map(str, milestones))}"),
        ("in all", _in_all(plan)),
        ("an evaluation", f"{each:,} images through the generator, and as many through {networks}"),
        ("samples", f"{evaluation.samples:,} retained and {evaluation.forget_samples:,} forgotten{final}"),
        (
            "slots",
            f"{resources.slots}, of {resources.workers_per_slot} worker(s) with {resources.cpus_per_worker:g} CPU and "
            f"{resources.gpus_per_worker:g} GPU each",
        ),
        ("memory", f"{plan.model_bytes / MEGABYTE:,.1f} MB a worker, without libraries and activations"),
        *_disk(plan),
    ]


def _scheduler(space: SearchSpace) -> str:
    scheduler = space.search.scheduler
    rungs = scheduler.rungs(space.trial.milestones())
    return f"scheduler {scheduler.type}" + (f" with rungs at {', '.join(map(str, rungs))}" if rungs else "")


def _at_random(space: SearchSpace) -> str:
    """Of what a sampler that needs one space for all trials draws without regard to results."""
    conditional = [name for name, distribution in space.parameters.searched().items() if distribution.when]
    alone = space.search.sampler in ("gp", "nsga2", "nsga3") and conditional
    return f"; {', '.join(conditional)} at random, as {space.search.sampler} models no conditions" if alone else ""


def _images(plan: ResolvedSweep) -> int:
    """Images of an evaluation; of held-out conditions there are as many as of the forgotten ones."""
    evaluation = plan.space.evaluation
    return evaluation.samples + evaluation.forget_samples * (2 if plan.conditions.held_out else 1)


def _in_all(plan: ResolvedSweep) -> str:
    """What all trials take together."""
    space = plan.space
    trials = space.budget.trials
    if trials is None:
        return "as many trials as the time allows"
    evaluations = trials * len(space.trial.milestones())
    samples = evaluations * _images(plan)
    return f"up to {trials * space.trial.steps:,} updates, {evaluations} evaluations, {samples:,} samples"


def _disk(plan: ResolvedSweep) -> list[tuple[str, object]]:
    """Most of what weights take in the storage, and on what assumption."""
    space, slots = plan.space, plan.space.resources.slots
    generator, state = plan.generator_bytes / MEGABYTE, plan.training_state_bytes / MEGABYTE
    number = "slots" if slots == "auto" else f"{min(slots, space.budget.trials or slots)} slots"
    slot = f"{plan.slot_bytes / MEGABYTE:,.1f} MB"
    members = {"front": "the members of the front", "all": "all trials (keep_generators: all)"}[space.keep_generators]
    of_all = "" if space.budget.trials is None else f", at most {space.budget.trials * generator:,.1f} MB"
    return [
        ("disk", f"{generator:,.1f} MB a generator and {state:,.1f} MB a training state, beside grids of samples"),
        ("", f"{number} × {slot}, the last checkpoint of each and the next while it is written"),
        ("", f"{generator:,.1f} MB for each of {members}{of_all}; as much in MLflow for the front's at the end"),
    ]


def _objective(objective: Objective) -> str:
    return f"{objective.goal}, reference {objective.reference_point:g}{_error(objective)}"


def _error(part: Objective | Constraint) -> str:
    return f", error {part.error:g}" if part.error else ""


def _places(plan: ResolvedSweep) -> list[tuple[str, object]]:
    space = plan.space
    return [
        ("storage", below(space.storage, space.name)),
        ("tracking", without_credentials(resolve_uri(space.tracking.uri))),
        ("experiment", space.tracking.experiment or space.name),
    ]
