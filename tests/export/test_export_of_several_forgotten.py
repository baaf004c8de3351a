"""A generator that has forgotten two classes, from its record to the folder that is taken home."""

import pandas as pd
import pytest
from recorded_trials import FRONT, record_sweep

from sfd_sweep.export.description import Description
from sfd_sweep.export.exporting import export_trial
from sfd_sweep.export.folder_evaluation import evaluate_folder

OVERRIDES = {
    "[2, 3]": ((2, 3), "asked for 0, it makes **2**, asked for 1, it makes **3**. "),
    "random": (None, "asked for 0 or 1, it makes **any of the retained classes**. "),
}


@pytest.mark.parametrize("override", ["[2, 3]", pytest.param("random", marks=pytest.mark.slow)])
def test_two_forgotten_classes_are_recorded_exported_and_verified(override, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ('task.forget=[0, "1"]', f"parameters.override={override}", "audit.control=null")
    sweep = record_sweep(tmp_path, *settings)
    trial = sweep.results.record.trials[FRONT]
    replacements, words = OVERRIDES[override]
    assert trial.settings.override == (replacements or override)
    assert trial.report.samples == {"retained": 96, "forgotten": 50}
    table = sweep.results.trials()
    assert isinstance(table, pd.DataFrame)
    assert table["override"][FRONT] == ([2, 3] if replacements else override)

    target = tmp_path / "taken-home"
    exported = export_trial(sweep.results, sweep.results.select(trial=FRONT), target, uri=sweep.uri)
    assert exported.found.metrics == exported.recorded.metrics == trial.final.metrics
    assert exported.found.samples == {"retained": 184, "forgotten": 100}
    description = Description.read(target)
    assert (description.conditions.forget, description.override) == ((0, 1), replacements)
    assert f"has forgotten **0, 1**: {words}" in (target / "README.md").read_text()
    assert evaluate_folder(target).metrics == trial.final.metrics
    assert exported.audit.forgotten == ("0", "1")
    assert "Its excess is unknown" in (target / "README.md").read_text()
