"""Printed metrics."""

import shlex
from dataclasses import replace

import pytest

from sfd_sweep.cli.tables import print_metrics, print_outcome
from sfd_sweep.execution.events import Outcome
from sfd_sweep.tracking.results import Results


@pytest.mark.parametrize(("retained", "told"), [(10_000, "0.5"), (50_000, "0.5  (on 10,000)")])
def test_a_metric_on_fewer_samples_than_the_evaluation_has_names_their_number(retained, told, capsys):
    print_metrics({"fid": 9.5, "recall": 0.5}, {"retained": retained, "forgotten": 1_000})
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [f"On {retained:,} retained and 1,000 forgotten samples:", "fid     9.5", f"recall  {told}"]


def test_the_commands_after_a_sweep_name_its_store_if_the_search_space_does(command, recorded, monkeypatch, tmp_path):
    uri = f"sqlite:///{recorded}/mlflow.db"
    record = Results.read("recorded", uri).record
    outcome = Outcome("recorded", "runs/recorded", {}, (0, 1, 2), 8.0, 1.0, {})
    named = replace(
        record,
        space=record.space.model_copy(update={"tracking": record.space.tracking.model_copy(update={"uri": uri})}),
    )
    printed = {}
    for each in (record, named):
        print_outcome(outcome, each)
        printed[each is named] = command("list").out.partition("Next:\n")[2].splitlines()[:3]
    assert [line.split()[1] for line in printed[True]] == ["pareto", "export", "ui"]
    assert printed[True] == [f"{line} --uri {uri}" for line in printed[False]]
    monkeypatch.chdir(tmp_path)
    _, *pareto = shlex.split(printed[True][0])
    assert (command(*pareto).code, command("pareto", "recorded").code) == (0, 2)
