"""Audits of trials: files in the trial's folder, and files, figures and curves in its MLflow run."""

import json
import tempfile
import time
from pathlib import Path

from mlflow.entities import Metric, RunTag

from sfd_sweep.audit.report import AuditReport
from sfd_sweep.search.trial import AuditFigure, Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.audit_picture import audit_png
from sfd_sweep.tracking.schema import AUDIT_PREFIX, Tag, audit_curves, audit_to_text
from sfd_sweep.tracking.store import Store, mlflow_errors
from sfd_sweep.trial.files import trial_folder

FOLDER = "audits"
"""Of a trial's audits, in its folder of the storage and in the artifacts of its run."""


def audit_figure(report: AuditReport) -> AuditFigure:
    """Return what tables show of an audit."""
    attack, figure = report.worst()
    return AuditFigure(
        level=report.level,
        value=figure.value,
        low=figure.low,
        high=figure.high,
        is_excess=report.has_control,
        attack=attack.name,
        broken=report.broken() is not None,
    )


def record_audit(store: Store, sweep: Folder, trial: Trial, report: AuditReport) -> Folder:
    """Write an audit into a trial's folder and its MLflow run, and return the folder; it replaces an earlier one.

    The run gets the files `audits/audit-LEVEL.json` and `.png`, a metric for each attack and subject whose steps are
    the attack's budget, and `audit_excess` (`audit_rate` without a control) with its limits. A quick audit does not
    replace the figures of a full one.

    Args:
        store: that the trial was read from.
        sweep: the sweep's folder.
        trial: that was audited.
        report: of its generator.

    Raises:
        UserError: MLflow fails.
    """
    files = {f"audit-{report.level}.json": report.to_json().encode(), f"audit-{report.level}.png": audit_png(report)}
    folder = trial_folder(sweep, trial.number) / FOLDER
    for name, content in files.items():
        folder.write(name, content)
    run_id = trial.run.run_id
    with mlflow_errors(store.uri), tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        store.client.log_artifacts(run_id, scratch, FOLDER)
        tags = store.client.get_run(run_id).data.tags
        points = {name: dict(curve) for name, curve in audit_curves(report).items()}
        before = json.loads(tags.get(Tag.AUDIT, "{}"))
        new_tags = []
        if report.level == "full" or before.get("level") != "full":
            new_tags = [RunTag(Tag.AUDIT, audit_to_text(audit_figure(report)))]
            points |= _figures(report, trial)
        store.client.log_batch(run_id, metrics=_new_points(store, run_id, points), tags=new_tags)
    return folder


def _figures(report: AuditReport, trial: Trial) -> dict[str, dict[int, float]]:
    """Return the figure with its limits as metrics, at the trial's last step."""
    figure, step = audit_figure(report), trial.report.step if trial.report else 0
    name = f"{AUDIT_PREFIX}{'excess' if figure.is_excess else 'rate'}"
    return {name: {step: figure.value}, f"{name}_low": {step: figure.low}, f"{name}_high": {step: figure.high}}


def _new_points(store: Store, run_id: str, curves: dict[str, dict[int, float]]) -> list[Metric]:
    """Return the points that the run does not have yet, so that an audit may be recorded twice."""
    now, points = int(time.time() * 1000), []
    for name, curve in curves.items():
        known = {point.step: point.value for point in store.client.get_metric_history(run_id, name)}
        points += [Metric(name, value, now, step) for step, value in curve.items() if known.get(step) != value]
    return points
