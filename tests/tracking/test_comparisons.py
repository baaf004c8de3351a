"""Comparisons as tables, pictures, pages, and runs in MLflow."""

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from compared import class_names, named, seeded
from PIL import Image
from recorded import trial
from recorded_trials import FORGET_WEIGHTS, FRONT, LOST, record_sweep
from test_tracking_models import put_generators
from test_tracking_pictures import THREE
from tracked_sweep import open_recorder, search_space, tell_sweep

from sfd_sweep import compare
from sfd_sweep.errors import UserError
from sfd_sweep.search.comparison import QUARTERS, Comparison, compare_records
from sfd_sweep.search.records import SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.comparison_page import comparison_html
from sfd_sweep.tracking.comparison_picture import comparison_png
from sfd_sweep.tracking.comparison_tables import comparison_json, comparison_table, comparison_tex
from sfd_sweep.tracking.comparison_view import ComparisonView
from sfd_sweep.tracking.comparisons import comparison_files, read_comparison, record_comparison
from sfd_sweep.tracking.store import Store

ONE = ("objectives=[{metric: unlearning_accuracy, goal: maximize, reference_point: 0}]",)


def two_samplers(*overrides: str) -> Comparison:
    records = [seeded(seed, *overrides) for seed in (0, 1, 2)]
    records += [seeded(s, "search.sampler=random", *overrides, worse=0.5, name="random") for s in (0, 1, 2)]
    return compare_records(records, class_names)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return two_samplers()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of a small sweep that has really been trained."""
    return record_sweep(tmp_path_factory.mktemp("trained")).uri


def beyond_the_reference_point(comparison: Comparison) -> set[int]:
    """Numbers of the complete trials of the study that are better than the reference point in both objectives."""
    trials = [each for part in comparison.groups for run in part.runs for each in run.complete]
    metrics = {each.number: each.metrics for each in trials}
    return {n for n, found in metrics.items() if found["fd_classifier"] < 50 and found["unlearning_accuracy"] > 0}


def test_a_real_study_is_drawn_with_a_line_for_each_group_that_attains_something(trained: str) -> None:
    comparison = read_comparison(["small"], by="forget_weight", uri=trained)
    view = ComparisonView(comparison)
    drawn = {part.label for part, band in zip(comparison.groups, view.panels[0].bands, strict=True) if band.line}
    assert drawn == {f"{FORGET_WEIGHTS[number]:g}" for number in beyond_the_reference_point(comparison)}
    assert drawn
    picture = Image.open(io.BytesIO(comparison_png(comparison))).convert("RGB")
    colors = {color for _, color in picture.getcolors(picture.width * picture.height)}
    for look, part in zip(view.looks, comparison.groups, strict=True):
        assert look.label.startswith(f"forget_weight {part.label} (1 seed")
        assert tuple(bytes.fromhex(look.color[1:])) in colors


def test_the_python_api_returns_a_row_for_each_group(trained: str) -> None:
    table = compare("small", by="forget_weight", uri=trained, max={"fd_classifier": 1000})
    assert table["group"].tolist() == ["0.02", "0.5", "1", "3"]
    assert table["complete"].tolist() == [1, 0, 1, 0]
    drawn = beyond_the_reference_point(read_comparison(["small"], by="forget_weight", uri=trained))
    assert (table["hypervolume"] > 0).tolist() == [LOST in drawn, False, FRONT in drawn, False]
    assert table["best_unlearning_accuracy"].isna().tolist() == [False, True, False, True]
    assert any("fd_classifier at most 1000" in remark for remark in table.attrs["remarks"])


def test_a_table_in_every_format_says_the_same(comparison: Comparison) -> None:
    table, files = comparison_table(comparison), comparison_files(comparison)
    medians = table["hypervolume"].tolist()
    assert pd.read_csv(io.BytesIO(files["comparison.csv"]))["hypervolume"].tolist() == pytest.approx(medians)
    assert pd.read_parquet(io.BytesIO(files["comparison.parquet"]))["hypervolume"].tolist() == medians
    assert [row["hypervolume"] for row in json.loads(files["comparison.json"])["groups"]] == pytest.approx(medians)
    for value in medians:
        assert f"{value:.4g} (" in files["comparison.tex"].decode()
        assert f"{value:.4g}<br>" in files["comparison.html"].decode()


def test_json_has_each_run_with_its_front_and_the_surfaces(comparison: Comparison) -> None:
    content = json.loads(comparison_json(comparison))
    first = content["groups"][0]
    assert [run["sweep"] for run in first["runs"]] == ["small-0", "small-1", "small-2"]
    assert [point["fd_classifier"] for point in first["runs"][0]["front"]] == [1.0, 3.0]
    assert [surface["share"] for surface in first["attainment"]] == list(QUARTERS)
    assert first["attainment"][1]["points"] == [
        [2.0, 0.5],
        [3.0, 0.6],
        [4.0, 0.9],
    ]  # by hand: what two of the three attain


def test_latex_escapes_names(comparison: Comparison) -> None:
    tex = comparison_tex(comparison)
    assert r"best fd\_classifier" in tex
    assert not re.search(r"(?<!\\)_", "\n".join(line for line in tex.splitlines() if not line.startswith("%")))


@pytest.mark.parametrize(
    ("overrides", "panels"), [(ONE, 1), ((), 2), (tuple(THREE), 4)], ids=["one objective", "two", "three"]
)
def test_there_is_a_panel_for_each_pair_of_objectives_and_one_of_the_progress(overrides, panels: int) -> None:
    comparison = two_samplers(*overrides)
    assert len(ComparisonView(comparison).panels) == panels
    assert Image.open(io.BytesIO(comparison_png(comparison))).width >= 1000
    assert comparison_html(comparison).count("data:image/svg+xml") == panels


def test_lines_are_the_borders_of_the_surfaces(comparison: Comparison) -> None:
    panel = ComparisonView(comparison).panels[0]
    line = panel.bands[0].line
    assert [10 ** point[0] for point in line[:-1]] == pytest.approx([2.0, 2.0, 3.0, 3.0, 4.0, 4.0])
    assert line[1][1] == line[2][1]
    assert all(one[0] == other[0] or one[1] == other[1] for one, other in pairwise(line))


def test_nothing_within_the_reference_point_is_said_and_drawn_without_a_line() -> None:
    far = [named("a", trial(0, 50.0, 0.5)), named("b", trial(0, 60.0, 0.5), overrides=("trial.steps=40",))]
    comparison = compare_records(far, class_names)
    assert ComparisonView(comparison).panels[0].is_empty
    assert set(comparison_files(comparison)) == {
        f"comparison.{e}" for e in ("csv", "json", "parquet", "tex", "png", "html")
    }


def test_a_page_loads_nothing_and_escapes_names(comparison: Comparison) -> None:
    page = comparison_html(comparison)
    assert not re.search(r"""src="(?!data:image/svg)|href=|@import|url\(|<script""", page)


def test_a_comparison_is_a_run_in_mlflow_that_says_what_was_compared(comparison: Comparison, tracking_uri: str) -> None:
    files = comparison_files(comparison)
    client = Store.open(tracking_uri).client
    run = client.get_run(record_comparison(comparison, files, tracking_uri))
    assert client.get_experiment(run.info.experiment_id).name == "comparisons"
    assert run.info.status == "FINISHED"
    assert run.data.params["sweeps"] == ", ".join(comparison.names)
    assert run.data.params["groups.1"] == "sampler random"
    assert run.data.metrics["hypervolume/sampler_tpe"] == comparison_table(comparison)["hypervolume"][0]
    assert "| sampler random | 3 |" in run.data.tags["mlflow.note.content"]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == set(files)
    assert Store.open(tracking_uri).sweep_runs() == []


def test_recorded_sweeps_of_a_store_are_compared(tracking_uri: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        space = search_space(tracking_uri, f"name={name}", f"search.seed={len(name)}", "trial.steps=20")
        put_generators(Folder.open(tmp_path) / space.name)
        recorder = open_recorder(space, tmp_path)
        tell_sweep(recorder, space)
        recorder.close(SweepState.COMPLETE)
    (row,) = compare("one", "two", uri=tracking_uri).to_dict("records")
    assert (row["seeds"], row["trials"], row["complete"]) == (2, 8, 6)
    with pytest.raises(UserError, match="one is named twice"):
        compare("one", "one", uri=tracking_uri)
