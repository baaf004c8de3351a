"""Conditional parameters in the study: each trial holds what it drew, whatever the sampler."""

from pathlib import Path

import optuna
import pytest
from stub_runtime import make_space
from test_study import run_trial, searched

from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder

CONDITION = (
    "parameters.guidance_scale={type: float, low: 1.25, high: 2, when: {override: random}, otherwise: 1}",
    "parameters.forget_weight={type: float, low: 0.01, high: 1}",
)


@pytest.mark.parametrize("sampler", ["tpe", "mfgp", "nsga2", "nsga3", "gp", "random"])
@pytest.mark.filterwarnings("error")
def test_trials_hold_what_they_drew_and_run_with_what_it_is_otherwise(
    tmp_path: Path, sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    optuna.logging.enable_propagation()
    space = make_space(tmp_path, f"search.sampler={sampler}", "budget.trials=16", *CONDITION)
    study = SweepStudy(space, Folder.open(tmp_path))
    for _ in range(12):
        run_trial(study)
    trials = study.trials()
    assert {trial.settings.override for trial in trials} == {1, "random"}
    for trial in trials:
        assert ("guidance_scale" in trial.searched) == (trial.settings.override == "random")
        assert trial.settings.guidance_scale == trial.searched.get("guidance_scale", 1.0)
    scales = [trial.searched["guidance_scale"] for trial in trials if "guidance_scale" in trial.searched]
    assert len(set(scales)) > 1
    assert not [message for message in caplog.messages if "independent" in message or "condition" in message]
    assert searched(SweepStudy(space, Folder.open(tmp_path))) == searched(study)
