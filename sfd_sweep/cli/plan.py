"""What a sweep would do, in words: the plan that `--dry-run` prints."""

from __future__ import annotations

from sfd_sweep.cli.tables import bounds, console, pairs
from sfd_sweep.config import ReferenceKind
from sfd_sweep.datasets.finding import describe
from sfd_sweep.evaluation.inception_weights import describe_weights
from sfd_sweep.storage import below
from sfd_sweep.tracking.store import resolve_uri, without_credentials
from sfd_sweep.trial.plan import Plan

MEGABYTE = 1e6


def print_plan(plan: Plan) -> None:
    """The plan, section by section."""
    parameters, space = plan.space.parameters, plan.space
    _section("models", [*_models(plan)])
    _section("work", [*_work(plan)])
    _section("searched", list(parameters.searched().items()))
    _section("fixed", list(parameters.fixed().items()))
    _section("objectives", [(part.metric, f"{part.goal}, reference {part.reference:g}") for part in space.objectives])
    _section("constraints", [(part.metric, bounds(part.min, part.max)) for part in space.constraints])
    _section("places", [*_places(plan)])
    console.print("This was a dry run: nothing was started or written.")


def _section(title: str, values: list[tuple[str, object]]) -> None:
    if values:
        console.print(title, style="bold underline")
        console.print(pairs(values))
        console.print()


def _models(plan: Plan) -> list[tuple[str, object]]:
    teacher, task, evaluation = plan.teacher, plan.space.task, plan.space.evaluation
    size, latent = ("×".join(map(str, shape)) for shape in (teacher.image_shape, teacher.sample_shape))
    latents = "" if teacher.vae is None else f" by latents of {latent}"
    null = "no null label" if teacher.null_label is None else "a null label"
    return [
        ("teacher", f"{task.teacher} ({teacher.path})"),
        ("", f"{teacher.parameter_count:,} parameters, {size} pixels{latents}, {null}"),
        ("", f"{teacher.prediction_type} at {teacher.diffusion_steps} diffusion steps"),
        ("start", f"{task.start} ({plan.start.path})"),
        ("forgets", ", ".join(plan.class_names[index] for index in plan.forget)),
        ("retains", ", ".join(plan.class_names[index] for index in plan.retain)),
        ("judge", evaluation.classifier),
        *_reference(plan),
    ]


def _reference(plan: Plan) -> list[tuple[str, object]]:
    """What generated images are compared with, and on whose features."""
    evaluation = plan.space.evaluation
    recipe = evaluation.teacher_samples
    rows: list[tuple[str, object]] = []
    if evaluation.reference_kind is ReferenceKind.TEACHER:
        made = f"{recipe.steps} steps of DDIM, guidance {recipe.guidance_scale:g}"
        rows.append(("reference", f"{recipe.samples:,} samples of the teacher, {made}; no real image is read"))
    else:
        rows.append(("real images", describe(evaluation.reference)))
    if plan.space.wants_inception:
        rows.append(("Inception-V3", f"{describe_weights(evaluation.inception.weights)}, {evaluation.inception.mode}"))
    return rows


def _work(plan: Plan) -> list[tuple[str, object]]:
    space, evaluation, resources = plan.space, plan.space.evaluation, plan.space.resources
    trials, milestones = space.search.trials, space.trial.milestones()
    evaluations = trials * len(milestones)
    each = evaluation.samples + evaluation.forget_samples
    networks = "the judge and Inception-V3" if space.wants_inception else "the judge"
    final = f"; the front once more on {evaluation.final_samples:,}" if evaluation.final_samples else ""
    return [
        ("search", f"{trials} trials, sampler {space.search.sampler}, scheduler {space.search.scheduler.type}"),
        ("a trial", f"{space.trial.steps} updates, evaluated after {', '.join(map(str, milestones))}"),
        (
            "in all",
            f"up to {trials * space.trial.steps:,} updates, {evaluations} evaluations, {evaluations * each:,} samples",
        ),
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


def _disk(plan: Plan) -> list[tuple[str, object]]:
    """Most of what weights take in the storage, and on what assumption."""
    space, trials = plan.space, plan.space.search.trials
    generator, state = plan.generator_bytes / MEGABYTE, plan.training_state_bytes / MEGABYTE
    slot, kept = plan.slot_bytes / MEGABYTE, plan.kept_bytes / MEGABYTE
    number = "slots" if space.resources.slots == "auto" else f"{min(space.resources.slots, trials)} slots"
    ended = f"if all {trials} are on the front" if space.keep_generators == "front" else "with keep_generators: all"
    return [
        ("disk", f"{generator:,.1f} MB a generator and {state:,.1f} MB a training state; two of each a slot at times"),
        ("", f"at most {number} × {slot:,.1f} MB + {kept:,.1f} MB {ended}, beside the grids"),
        ("", f"in MLflow {generator:,.1f} MB for each member of the last front, when the sweep is complete"),
    ]


def _places(plan: Plan) -> list[tuple[str, object]]:
    space = plan.space
    return [
        ("storage", below(space.storage, space.name)),
        ("tracking", without_credentials(resolve_uri(space.tracking.uri))),
        ("experiment", space.tracking.experiment or space.name),
    ]
