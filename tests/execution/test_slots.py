"""A trial on one and on two workers of a slot, through Ray Train itself."""

from pathlib import Path

import pytest
from stub_runtime import Notebook

from sfd_sweep.config.loading import load_search_space
from sfd_sweep.execution.run import run
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import read_report, trial_folder

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


def reports(tmp_path, workers, *overrides):
    space = load_search_space(
        DIGITS,
        [
            *(f"name=workers-{workers}", f"storage={tmp_path}", f"resources.workers_per_slot={workers}"),
            "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}]",
            *("task.forget=[0, 1]", "parameters.override=[2, 3]", "search.first=[]", "constraints=[]", "selection={}"),
            *(
                "budget.trials=2",
                "resources.slots=1",
                "resources.cpus_per_worker=0.5",
                "trial.steps=2",
                "trial.evaluate_every=1",
            ),
            *("parameters.batch_size=9", "parameters.forget_batch_size=4"),
            *("evaluation.samples=400", "evaluation.forget_samples=200", "evaluation.final_samples=null"),
            *overrides,
        ],
    )
    run(space, open_recorder=Notebook().open)
    sweep = Folder.open(tmp_path) / space.name
    return [read_report(trial_folder(sweep, number), step) for number in (0, 1) for step in (1, 2)]


@pytest.mark.slow
def test_two_workers_give_the_metrics_that_one_gives(cluster, tmp_path):
    alone = reports(tmp_path, 1)
    together = reports(tmp_path, 2, "resources.micro_batch_size=3")
    for one, two in zip(alone, together, strict=True):
        assert two.samples == one.samples == {"retained": 400, "forgotten": 200}
        assert two.losses == pytest.approx(one.losses, rel=1e-3)
        assert two.metrics == pytest.approx(one.metrics, rel=0.01, abs=0.01)
    assert alone[0].metrics != pytest.approx(alone[1].metrics, rel=0.01, abs=0.01)  # a step more, or other settings,
    assert alone[1].metrics != pytest.approx(alone[3].metrics, rel=0.01, abs=0.01)  # would have shown
