"""Findings of the doctor on this machine."""

from pathlib import Path

from sfd_sweep.config.loading import load_search_space
from sfd_sweep.execution.doctor import CheckStatus, examine

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


def test_a_worker_that_fits_on_no_machine_is_a_fault(cluster: None, tmp_path: Path) -> None:
    space = load_search_space(DIGITS, [f"storage={tmp_path / 'runs'}", "resources.cpus_per_worker=1000"])
    (found,) = [finding for finding in examine(space, None) if finding.check == "resources"]
    assert (found.place, found.status) == ("cluster", CheckStatus.FAULT)
    assert found.text.startswith("resources.cpus_per_worker: a worker needs 1000 CPUs")
    assert not (tmp_path / "runs").exists()
