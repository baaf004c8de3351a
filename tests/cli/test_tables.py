"""Printed metrics."""

import pytest

from sfd_sweep.cli.tables import print_metrics


@pytest.mark.parametrize(("retained", "told"), [(10_000, "0.5"), (50_000, "0.5  (on 10,000)")])
def test_a_metric_on_fewer_samples_than_the_evaluation_has_names_their_number(retained, told, capsys):
    print_metrics({"fid": 9.5, "recall": 0.5}, {"retained": retained, "forgotten": 1_000})
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [f"On {retained:,} retained and 1,000 forgotten samples:", "fid     9.5", f"recall  {told}"]
