"""The page of a sweep in MLflow: its description, its address, and the view of trials that it opens on."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mlflow.entities import Run

from sfd_sweep.config import SearchSpace
from sfd_sweep.tracking.schema import SCORE, TRIAL_KIND, Tag

SHARED_VIEW = "mlflow.sharedViewState."
"""Prefix of an experiment's tag with a view that addresses name by the rest of the tag."""
MACHINE_LEARNING = "machine_learning"
"""The half of MLflow's pages that shows trainings."""


def describe(space: SearchSpace, front: Mapping[int, Mapping[str, float]] = {}, ended: int = 0) -> str:
    """Return what a sweep does, and its front, as Markdown.

    Args:
        space: the sweep.
        front: metrics of the trials on the front by their numbers.
        ended: number of trials that have ended.
    """
    if not ended:
        return _task(space)
    if not front:
        return f"{_task(space)}\n\nNo trial is on the front after {ended} trials."
    metrics = [part.metric for part in space.objectives]
    rows = [f"| {number} | {' | '.join(f'{front[number][name]:.4g}' for name in metrics)} |" for number in front]
    table = "\n".join([f"| trial | {' | '.join(metrics)} |", "| --- |" + " --- |" * len(metrics), *rows])
    return (
        f"{_task(space)}\n\nThe front after {ended} trials:\n\n{table}\n\n"
        f"`sfd-sweep pareto {space.name}` shows it, and "
        f"`sfd-sweep export {space.name} --knee --out FOLDER` exports its knee."
    )


def trials_view(space: SearchSpace) -> str:
    """Return the view of a sweep's trials, the best score first, as JSON for MLflow's page of runs.

    Its columns are state, front and selection, score, objectives, constraints, and the searched parameters.
    """
    metrics = [SCORE, *(part.metric for part in space.objectives), *(part.metric for part in space.constraints)]
    columns = [_column("tags", tag) for tag in (Tag.STATE, Tag.PARETO, Tag.FORGOTTEN)]
    columns += [_column("metrics", name) for name in dict.fromkeys(metrics)]
    columns += [_column("params", name) for name in space.parameters.searched()]
    state = {
        "searchFilter": f"tags.`{Tag.SWEEP}` = '{space.name}' AND tags.`{Tag.KIND}` = '{TRIAL_KIND}'",
        "orderByKey": _column("metrics", SCORE),
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
    }
    return json.dumps(state)


def view_tag(sweep: Run) -> str:
    """Return the experiment's tag for the view of a sweep's trials."""
    return f"{SHARED_VIEW}{sweep.info.run_id}"


def page(server: str, sweep: Run) -> str:
    """Return the address of the view of a sweep's trials on a tracking server."""
    query = f"viewStateShareKey={sweep.info.run_id}&workflowType={MACHINE_LEARNING}"
    return f"{server.rstrip('/')}/#/experiments/{sweep.info.experiment_id}/runs?{query}"


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _task(space: SearchSpace) -> str:
    objectives = [f"{objective.goal} {objective.metric}" for objective in space.objectives]
    bounds = [bound.in_words() for bound in space.constraints]
    forgotten = ", ".join(map(str, space.task.forget))
    return (
        f"Forget **{forgotten}** of `{space.task.teacher}`: {', '.join(objectives)}"
        f"{', with ' + ', '.join(bounds) if bounds else ''}. "
        f"{space.budget}, a trial of {space.trial.steps} steps, {space.search.sampler} sampler."
    )
