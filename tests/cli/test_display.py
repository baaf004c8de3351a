"""The display of a running sweep."""

import math

import pytest
from recorded_sweep import report, space
from rich.console import Console

from sfd_sweep.cli.display import Lines, LiveTable, View
from sfd_sweep.execution.events import SweepStart
from sfd_sweep.trial.report import TrialState

WEIGHTS = "weights take at most 7 MB"


def tell(view: View, tmp_path, *, ended_earlier: int = 0) -> None:
    """Trials 0 to 2: the first is complete, the second has failed, the third runs."""
    recorded = space(tmp_path)
    searched = {"generator_lr": 1e-4, "fake_score_forget_weight": 0.1, "override": 1}
    settings = recorded.parameters.settings(searched)

    def trial_0() -> None:
        view.trial_started(0, settings, searched)
        view.trial_reported(0, report(20, 1.25, 0.75))
        view.trial_finished(0, TrialState.COMPLETE, None)
        view.front_changed([0], 7.5)

    view.sweep_started(SweepStart(recorded, "/runs/recorded", slots=2, ended=ended_earlier, weights=WEIGHTS))
    if ended_earlier:
        trial_0()
    view.phase("starting 2 slots")
    if not ended_earlier:
        trial_0()
    view.trial_started(1, settings, searched)
    view.trial_finished(1, TrialState.FAILED, "diverged [at step] 3")
    view.trial_started(2, settings, searched)
    view.trial_reported(2, report(10, 3.5, 0.25))


def screen(table: LiveTable, height: int = 30) -> str:
    console = Console(width=100, height=height, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table.render())
    return console.export_text()


def test_the_live_table_has_a_row_for_each_trial_with_the_metrics_of_the_search_space(tmp_path):
    table = LiveTable()
    tell(table, tmp_path)
    title, weights, *lines = screen(table).splitlines()
    assert (title, weights) == ("recorded: training", WEIGHTS)
    assert [word for line in lines[:2] for word in line.split()] == [
        *("fd_", "unlearning_", "override_"),
        *("trial", "step", "classifier", "accuracy", "distance", "front", "state"),
    ]
    assert lines[2].split() == ["0", "20/20", "1.25", "0.75", "4", "yes", "complete"]
    assert lines[3].split() == ["1", "0/20", "failed:", "diverged", "[at", "step]", "3"]
    assert lines[4].split() == ["2", "10/20", "3.5", "0.25", "4", "running"]


def test_the_line_below_says_how_far_the_sweep_is(tmp_path):
    table = LiveTable()
    tell(table, tmp_path)
    status = screen(table).splitlines()[-1]
    q, f = math.log1p(1.25) / math.log1p(10), 1 - 0.75  # augmented Chebyshev, of the complete trial alone
    assert f"2/5 trials · best score {max(q, f) + 0.05 * (q + f):.4g} · " in status
    assert "1 on the front" in status
    assert "left" in status


def test_time_left_is_judged_by_the_trials_of_this_part_of_the_sweep(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    table = LiveTable()
    tell(table, tmp_path, ended_earlier=1)
    clock[0] = 130.0  # one trial has ended here in 30 s, three are left
    assert "about 1:30 left" in screen(table).splitlines()[-1]


def test_before_the_sweep_has_started_the_live_table_says_so():
    assert screen(LiveTable()).startswith("starting")


def test_running_trials_are_shown_before_all_where_the_screen_is_low(tmp_path, monkeypatch):
    table = LiveTable()
    tell(table, tmp_path)
    monkeypatch.setattr("sfd_sweep.cli.display.MAX_ROWS", 1)
    shown = [line.split()[0] for line in screen(table).splitlines()[4:-1]]
    assert shown == ["2"]


def test_without_a_terminal_every_event_is_a_line(tmp_path, capsys):
    tell(Lines(), tmp_path)
    events = [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert events == [
        "recorded: 5 trials, 20 steps a trial, 2 at a time, in /runs/recorded",
        WEIGHTS,
        "starting 2 slots",
        "trial 0 starts: generator_lr 0.0001, fake_score_forget_weight 0.1, override 1",
        "trial 0 at step 20: fd_classifier 1.25, unlearning_accuracy 0.75, override_distance 4",
        "trial 0 is complete",
        "front: 0; hypervolume 7.5",
        "trial 1 starts: generator_lr 0.0001, fake_score_forget_weight 0.1, override 1",
        "trial 1 is failed: diverged [at step] 3",
        "trial 2 starts: generator_lr 0.0001, fake_score_forget_weight 0.1, override 1",
        "trial 2 at step 10: fd_classifier 3.5, unlearning_accuracy 0.25, override_distance 4",
    ]


def test_a_resumed_sweep_does_not_repeat_what_was_said_in_its_earlier_part(tmp_path, capsys):
    tell(Lines(), tmp_path, ended_earlier=1)
    out = capsys.readouterr().out
    assert "1 trials have ended earlier" in out
    assert "trial 0" not in out
    assert "trial 1 starts" in out


@pytest.mark.parametrize("view", [Lines, LiveTable])
def test_a_view_knows_the_search_space_once_the_sweep_has_started(view, tmp_path, capsys):
    started = view()
    with pytest.raises(RuntimeError, match="not started"):
        _ = started.space
    tell(started, tmp_path)
    assert started.space.name == "recorded"


def test_what_is_taken_over_from_earlier_sweeps_is_said_at_the_start(tmp_path, capsys):
    earlier = ("taken over: 2", "left out: 1")
    plan = SweepStart(space(tmp_path), "/runs/recorded", slots=2, ended=0, weights=WEIGHTS, earlier=earlier)
    lines, table = Lines(), LiveTable()
    lines.sweep_started(plan)
    table.sweep_started(plan)
    assert [line.split("s  ")[1] for line in capsys.readouterr().out.splitlines()[1:]] == [WEIGHTS, *earlier]
    assert screen(table).splitlines()[1:4] == [WEIGHTS, *earlier]


def test_a_trial_that_stops_before_it_has_started_gets_a_row(tmp_path):
    table = LiveTable()
    tell(table, tmp_path)
    table.trial_finished(3, TrialState.STOPPED, "recorded was stopped")
    (row,) = [line.split() for line in screen(table).splitlines() if line.split()[:1] == ["3"]]
    assert row == ["3", "0/20", "stopped:", "recorded", "was", "stopped"]
