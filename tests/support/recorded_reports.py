"""Every report of a recorded trial, as MLflow's pages draw them."""

from collections import defaultdict

from sfd_sweep.search.trial import Trial
from sfd_sweep.tracking.schema import FINAL, metrics_to_report, restore
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.report import Report


def read_reports(uri: str | None, trial: Trial) -> list[Report]:
    """Return the reports of a trial by step, with one request per metric."""
    client = Store.open(uri).client
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for name in client.get_run(trial.run.run_id).data.metrics:
        if not name.startswith(FINAL):
            for point in client.get_metric_history(trial.run.run_id, name):
                by_step[point.step][name] = point.value
    reports = [metrics_to_report(restore(metrics)) for _, metrics in sorted(by_step.items())]
    return [report for report in reports if report]
