"""The command that compares sweeps."""

from pathlib import Path

import pandas as pd
import pytest
from recorded_sweep import NAME, record_sweep


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a sweep and one of another seed."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        record_sweep(folder)
        record_sweep(folder, "name=again", "search.seed=1", "trial.seed=1")
        record_sweep(folder, "name=judged-by-few", "evaluation.samples=100")
    return folder


@pytest.fixture(autouse=True)
def _in_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_sweeps_of_two_seeds_are_one_row(command):
    said = command("compare", NAME, "again")
    assert said.code == 0, said.err
    row = next(line.split() for line in said.out.splitlines() if line.startswith(NAME))
    assert row[:6] == [NAME, "and", "1", "more", "2", "10"]
    assert "…" not in said.out


def test_a_sweep_is_compared_by_a_parameter_within_bounds(command):
    said = command("compare", NAME, "--by", "override", "--min", "unlearning_accuracy=0.9")
    assert said.code == 0, said.err
    assert "Best values are those of trials with unlearning_accuracy at least 0.9" in said.out
    cells = [line.split() for line in said.out.splitlines() if line.startswith(("1 ", "random "))]
    assert [row[-2:] for row in cells[2:]] == [["6", "0.99"], ["1.5", "0.95"]]  # trials 2 and 1


def test_files_are_written_and_a_second_time_replaced(command, tmp_path):
    out = tmp_path / "deep" / "compared"
    for _ in range(2):
        said = command("compare", NAME, "again", "--out", str(out))
        assert said.code == 0, said.err
        assert "of the experiment comparisons" in said.out
    names = {f"comparison.{ending}" for ending in ("csv", "json", "parquet", "tex", "png", "html")}
    assert {path.name for path in out.iterdir()} == names
    assert pd.read_csv(out / "comparison.csv")["seeds"].tolist() == [2]
    assert NAME in command("list").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((NAME,), "nothing to be compared with"),
        ((NAME, NAME), "named twice"),
        ((NAME, "judged-by-few"), "evaluation.samples is 2000 and 100"),
        ((NAME, "nobody"), "unknown sweep 'nobody'"),
        ((NAME, "--by", "overide"), "did you mean override?"),
        ((NAME, "again", "--min", "unlearning_accuracy=2"), "cannot be 2"),
        ((NAME, "again", "--min", "unlearning=0.5"), "unknown metric 'unlearning'"),
        ((NAME, "again", "--min", "unlearning_accuracy"), "write METRIC=NUMBER"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_code_2(command, arguments, told, tmp_path):
    out = tmp_path / "out"
    said = command("compare", *arguments, "--out", str(out))
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert told in said.err
    assert not out.exists()


def test_a_folder_that_cannot_be_created_is_one_line(command, tmp_path):
    (tmp_path / "file").write_text("")
    said = command("compare", NAME, "again", "--out", str(tmp_path / "file" / "below"))
    assert said.code == 2
    assert "cannot create" in said.err
    assert said.err.count("\n") == 1
