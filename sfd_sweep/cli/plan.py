"""The plan of a sweep that `run --dry-run` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sfd_sweep.cli.tables import bounds, console, pairs
from sfd_sweep.config import Constraint, Objective, SearchSpace
from sfd_sweep.config.schema import UNCONDITIONAL
from sfd_sweep.datasets.finding import find_images, find_unlabeled_images
from sfd_sweep.evaluation.inception_weights import describe_weights
from sfd_sweep.method.cost import updates_until
from sfd_sweep.metrics import Need, ReferenceKind
from sfd_sweep.metrics.definition import ATTACKS
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import below
from sfd_sweep.tracking.store import resolve_uri
from sfd_sweep.trial.resolve import MEGABYTE, ResolvedSweep

Rows = Iterator[tuple[str, object]]


def print_plan(plan: ResolvedSweep, warm_start: Sequence[str]) -> None:
    """Print the plan, section by section.

    Args:
        plan: The resolved sweep.
        warm_start: What the sweep takes from earlier sweeps, in words.
    """
    parameters, space = plan.space.parameters, plan.space
    sections = {
        "models": _models(plan),
        "work": _work(plan),
        "searched": ((name, drawn.in_words()) for name, drawn in parameters.searched().items()),
        "earlier sweeps": (("", line) for line in warm_start),
        "fixed": parameters.fixed().items(),
        "objectives": ((part.metric, _objective(part)) for part in space.objectives),
        "constraints": ((part.metric, bounds(part.min, part.max) + _error(part)) for part in space.constraints),
        "counts as forgotten": ((bound.metric, bound.range_in_words()) for bound in space.selection.bounds),
        "places": _places(space),
    }
    for title, rows in sections.items():
        if values := list(rows):
            console.print(title, style="bold underline")
            console.print(pairs(values))
            console.print()
    console.print("This was a dry run: nothing was started or written.")


def _models(plan: ResolvedSweep) -> Rows:
    teacher, task = plan.teacher, plan.space.task
    size, latent = ("×".join(map(str, shape)) for shape in (teacher.image_shape, teacher.sample_shape))
    latents = f" by latents of {latent}" if teacher.works_on_latents else ""
    null = "no null label" if teacher.null_label is None else "a null label"
    yield "teacher", f"{task.teacher} ({teacher.path})"
    yield "", f"{teacher.parameter_count:,} parameters, {size} pixels{latents}, {null}"
    steps = f"{teacher.diffusion_steps} {teacher.process.steps_in_words}"
    yield "", f"{teacher.prediction_type} at {steps}{teacher.t_advice}"
    yield "start", f"{task.start} ({plan.start.path})"
    yield from _conditions(plan)
    yield "classifier", plan.space.evaluation.classifier
    yield from _references(plan)
    yield from _audit(plan.space)


def _conditions(plan: ResolvedSweep) -> Rows:
    """Yield the conditions: classes by name, prompts by their number and the first."""
    conditions = plan.conditions
    groups = {"forgets": conditions.forget, "retains": conditions.retain}
    if not plan.prompts:
        for key, indices in groups.items():
            yield key, ", ".join(conditions.names[index] for index in indices)
        return
    groups["held out"] = conditions.held_out
    if conditions.evaluated != conditions.retain:
        groups["quality on"] = conditions.evaluated
    for key, indices in groups.items():
        if indices:
            yield key, f"{len(indices):,} prompts, the first: {conditions.names[indices[0]]}"
    if cut := plan.cut_prompts:
        yield (
            "cut",
            f"{len(cut):,} prompts, which are longer than the models read, the first: {conditions.names[cut[0]]}",
        )


def _references(plan: ResolvedSweep) -> Rows:
    """Yield what generated images are compared with, and on which features."""
    evaluation = plan.space.evaluation
    recipe = evaluation.teacher_samples
    if evaluation.reference_kind is ReferenceKind.TEACHER:
        sampler = f"{recipe.steps} steps of {plan.teacher.process.sampler}, guidance {recipe.guidance_scale:g}"
        yield "reference", f"{recipe.samples:,} samples of the teacher, {sampler}; no real image is read"
    else:
        find = find_unlabeled_images if plan.prompts else find_images
        yield "real images", find(evaluation.reference).describe()
    if plan.prompts:
        overrides = f"{recipe.override_samples:,} samples of the teacher for each of {len(plan.overrides)}"
        yield "overrides", f"{overrides}, and samples of the concept, which the classifier must recognize"
        yield "CLIP score", evaluation.clip or "none"
    if plan.space.wants_inception:
        yield "Inception-V3", f"{describe_weights(evaluation.inception.weights)}, {evaluation.inception.mode}"


def _audit(space: SearchSpace) -> Rows:
    """Yield what durability is measured with; nothing if no metric needs it."""
    if space.asked_needs & ATTACKS:
        yield "judge", space.audit.judge
    if Need.CONTROL in space.asked_needs:
        yield "never knew", f"{space.audit.control}; attacked once"


def _work(plan: ResolvedSweep) -> Rows:
    space, evaluation, resources = plan.space, plan.space.evaluation, plan.space.resources
    milestones = ", ".join(map(str, space.trial.milestones()))
    networks = "the classifier and Inception-V3" if space.wants_inception else "the classifier"
    final = f"; the front on {evaluation.final_samples:,} in the final evaluation" if evaluation.final_samples else ""
    workers = f"{resources.workers_per_slot} worker(s) with {resources.cpus_per_worker:g} CPU"
    yield "search", f"sampler {space.search.sampler}, {_scheduler(space)}{_at_random(space)}"
    yield "budget", f"{space.budget}; running trials complete when it is used up"
    unit = "updates" if space.trial.step_cost is None else f"steps of {space.trial.step_cost:,} forward-equivalents"
    yield "a trial", f"{space.trial.steps} {unit}, evaluated after {milestones}"
    yield from _costs(plan)
    yield "in all", _total(plan)
    yield "an evaluation", f"{_images(plan):,} images through the generator, and as many through {networks}"
    yield from _attacks(space)
    yield "samples", f"{evaluation.samples:,} retained and {evaluation.forget_samples:,} forgotten{final}"
    if plan.has_swap:
        yield "null baseline", "one more evaluation, of the start with the embedding of an override"
    yield "slots", f"{resources.slots}, of {workers} and {resources.gpus_per_worker:g} GPU each"
    yield "memory", f"{plan.model_bytes / MEGABYTE:,.1f} MB a worker, without libraries and activations"
    yield from _disk(plan)


def _costs(plan: ResolvedSweep) -> Rows:
    """Yield what an update of each method costs, and how many a trial does where a step has a budget."""
    trial = plan.space.trial
    for method, (least, most) in plan.update_costs.items():
        if most == 0:
            yield method, "trains nothing"
            continue
        cost = f"an update costs {_from_to(least, most)} forward-equivalents"
        if trial.step_cost is None:
            yield method, cost
        else:
            fewest, all_in = (updates_until(trial.steps, trial.step_cost, each) for each in (most, least))
            yield method, f"{cost}; {_from_to(fewest, all_in)} updates a trial"


def _from_to(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _attacks(space: SearchSpace) -> Rows:
    """Yield the cost of the attacks that each evaluation makes."""
    if not space.asked_needs & ATTACKS:
        return
    from sfd_sweep.audit.cheap import CHEAP, SAMPLES

    for need, (name, attack) in CHEAP.items():
        if need in space.asked_needs:
            yield name, f"{attack.cost}; {SAMPLES} images are judged"


def _scheduler(space: SearchSpace) -> str:
    scheduler = space.search.scheduler
    rungs = scheduler.rungs(space.trial.milestones())
    return f"scheduler {scheduler.type}" + (f" with rungs at {', '.join(map(str, rungs))}" if rungs else "")


def _at_random(space: SearchSpace) -> str:
    """Return which parameters are drawn regardless of results, because the sampler models no conditions."""
    conditional = [name for name, distribution in space.parameters.searched().items() if distribution.when]
    is_unaware = space.search.sampler in UNCONDITIONAL and conditional
    return f"; {', '.join(conditional)} at random, as {space.search.sampler} models no conditions" if is_unaware else ""


def _images(plan: ResolvedSweep) -> int:
    """Return the images of an evaluation; held-out conditions have as many as forgotten ones."""
    evaluation = plan.space.evaluation
    return evaluation.samples + evaluation.forget_samples * (2 if plan.conditions.held_out else 1)


def _total(plan: ResolvedSweep) -> str:
    space, trials = plan.space, plan.space.budget.trials
    if trials is None:
        return "as many trials as the time allows"
    evaluations = trials * len(space.trial.milestones())
    samples = evaluations * _images(plan)
    unit = "updates" if space.trial.step_cost is None else "steps"
    return f"up to {trials * space.trial.steps:,} {unit}, {evaluations} evaluations, {samples:,} samples"


def _disk(plan: ResolvedSweep) -> Rows:
    """Yield the largest size of the weights in the storage."""
    space, slots, trials = plan.space, plan.space.resources.slots, plan.space.budget.trials
    generator, state = plan.generator_bytes / MEGABYTE, plan.training_state_bytes / MEGABYTE
    number = "slots" if slots == "auto" else f"{min(slots, trials or slots)} slots"
    members = {"front": "the members of the front", "all": "all trials (keep_generators: all)"}[space.keep_generators]
    of_all = "" if trials is None else f", at most {trials * generator:,.1f} MB"
    yield "disk", f"{generator:,.1f} MB a generator and {state:,.1f} MB a training state, beside sample grids"
    yield "", f"{number} × {plan.slot_bytes / MEGABYTE:,.1f} MB: the last checkpoint of each, and the next one"
    yield "", f"{generator:,.1f} MB for each of {members}{of_all}; as much in MLflow for the front"


def _objective(objective: Objective) -> str:
    return f"{objective.goal}, reference point {objective.reference_point:g}{_error(objective)}"


def _error(part: Objective | Constraint) -> str:
    return f", error {part.error:g}" if part.error else ""


def _places(space: SearchSpace) -> Rows:
    yield "storage", below(space.storage, space.name)
    yield "tracking", without_credentials(resolve_uri(space.tracking.uri))
    yield "experiment", space.tracking.experiment or space.name
