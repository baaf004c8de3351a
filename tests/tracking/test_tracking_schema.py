"""Settings and reports survive the way into MLflow's words and back."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfd_sweep.config import Settings
from sfd_sweep.tracking.schema import (
    from_text,
    metrics_to_report,
    parameters_to_settings,
    report_to_metrics,
    restore,
    settings_to_parameters,
    to_text,
)
from sfd_sweep.trial.report import Report


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False), st.lists(st.text())))
def test_a_value_is_read_back_from_its_text(value: object) -> None:
    read = from_text(to_text(value))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("value", "text"), [("random", "random"), (1, "1"), ("1", '"1"'), (3e-5, "3e-05"), ([0, 1], "[0, 1]")]
)
def test_a_text_is_quoted_only_where_it_would_be_taken_for_something_else(value: object, text: str) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize("override", [1, "1", "random", (1, 2), ("one", 2)])
def test_settings_are_read_back_from_parameters(override: object) -> None:
    settings = Settings(generator_lr=1.1e-5, override=override, loss="diff_instruct")
    assert parameters_to_settings(settings_to_parameters(settings)) == settings


def test_a_report_is_read_back_from_metrics() -> None:
    report = Report(
        20, {"fd_classifier": 1.5}, {"retained": 200}, {"generator": 0.1}, {"training": 2.0}, 3, {"sampling": 0.5}
    )
    assert metrics_to_report(report_to_metrics(report)) == report


def test_metrics_without_a_step_are_no_report() -> None:
    assert metrics_to_report({"fd_classifier": 1.0}) is None


def test_an_infinity_that_a_database_has_cut_is_restored() -> None:
    cut = {"a": 1.7976931348623157e308, "b": -1.7976931348623157e308, "c": 1.0}
    assert restore(cut) == {"a": math.inf, "b": -math.inf, "c": 1.0}


def test_words_and_records_are_known_without_mlflow() -> None:
    code = (
        "import sys, sfd_sweep.tracking.schema, sfd_sweep.search.records;"
        "sys.exit(bool({'mlflow', 'torch', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
