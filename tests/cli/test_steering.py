"""Commands for a sweep that another process runs."""

import json
import re
from pathlib import Path

import pytest
from stub_runtime import figures, make_space

from sfd_sweep.config import dump_search_space
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import one_driver
from sfd_sweep.trial.files import CONFIG
from sfd_sweep.trial.logs import trial_logs
from sfd_sweep.trial.report import Report

STORAGE = ("--storage", "runs")


@pytest.fixture
def sweep(folder: Path) -> Folder:
    """A sweep with a complete trial, a failed one, and a running one at a third of its steps."""
    space = make_space("runs")
    sweep = Folder.open(folder / "runs" / "stub")
    sweep.write(CONFIG, dump_search_space(space).encode())
    study = SweepStudy(space, sweep)
    for number, step in ((study.ask(), 6), (study.ask(), 0), (study.ask(), 2)):
        for to in range(2, step + 1, 2):
            metrics = figures(study.trial(number).settings, to)
            study.report(number, Report(to, metrics, {}, {}, {"training": 30.0}))
        if step == 6:
            study.end(number)
        elif not step:
            study.fail(number, "it diverged")
        trial_logs(sweep, number).write("worker-0.log", f"of trial {number}\n".encode())
    return sweep


def test_settings_are_added_to_a_sweep_that_does_not_run(command, sweep):
    said = command("add", "stub", "guidance_scale=1.5", *STORAGE)
    assert (said.code, said.out) == (0, "added: guidance_scale 1.5\n`sfd-sweep resume stub` runs it\n")
    said = command("retry", "stub", "--failed", *STORAGE)
    assert (said.code, said.out) == (0, "tried again: trial 1\n`sfd-sweep resume stub` runs it\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "stub", "guidance_scale=9"),
        ("add", "stub", "--change", "guidance_scale=1.5"),
        ("add", "stub"),
        ("stop", "stub"),
        ("stop", "stub", "--trial", "2", "--now"),
        ("retry", "stub"),
        ("retry", "stub", "--failed", "--trial", "1"),
        ("logs", "stub", "--trial", "3"),
        ("watch", "other"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_nothing_is_requested(command, sweep, arguments):
    said = command(*arguments, *STORAGE)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("sfd-sweep: error: ")
    assert not sweep.has("requests")


def test_a_running_sweep_is_told_to_stop(command, sweep):
    with one_driver(sweep):
        assert command("stop", "stub", "--trial", "2", *STORAGE).out == "trial 2 of stub ends at its next evaluation\n"
        assert command("stop", "stub", *STORAGE).out == "stub stops at its next evaluation\n"
        assert command("stop", "stub", "--now", *STORAGE).out == "stub stops within seconds\n"
    assert len((sweep / "requests").names()) == 3


def test_watching_shows_trials_faults_and_the_time_left_by_what_trials_have_cost(command, sweep):
    with one_driver(sweep):
        out = command("watch", "stub", *STORAGE).out
        data = json.loads(command("watch", "stub", "--json", *STORAGE).out)
    assert out.startswith("stub: running\n")
    assert re.search(r"^ +0 +6/6 .* yes +complete *$", out, re.M)
    assert re.search(r"^ +1 +0/6 .* failed: it diverged *$", out, re.M)
    assert re.search(r"^ +2 +2/6 .* running *$", out, re.M)
    assert "2/4 trials · " in out
    assert "about 1:00 left" in out  # two trials of 45 s on average, one of which has taken 30 s
    assert (data["running"], data["seconds_left"], data["front"]) == (True, 60.0, [0])
    assert [trial["state"] for trial in data["trials"]] == ["complete", "failed", "running"]
    assert "stub: not running; `sfd-sweep resume stub` continues\n" in command("watch", "stub", *STORAGE).out


def test_the_output_of_workers_is_printed_under_titles(command, sweep):
    said = command("logs", "stub", *STORAGE)
    assert said.out == "".join(f"==> trial {number} worker 0 <==\nof trial {number}\n" for number in range(3))
    assert command("logs", "stub", "--trial", "1", "--follow", *STORAGE).out == "==> trial 1 worker 0 <==\nof trial 1\n"
