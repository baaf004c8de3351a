"""The page of a sweep in MLflow: its description, and the view that its address opens."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow_server import mlflow_server
from test_tracking_models import put_generators
from tracked_sweep import open_recorder, report, search_space, tell_sweep

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.records import ResourceUsage, SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.reader import find_sweep
from sfd_sweep.tracking.store import Store
from sfd_sweep.tracking.sweep_page import describe, page, trials_view, view_tag


def test_the_description_has_the_front_and_how_to_export_it(space: SearchSpace) -> None:
    front = {7: {"fd_classifier": 1.5, "unlearning_accuracy": 0.25}, 3: {"fd_classifier": 9, "unlearning_accuracy": 1}}
    *_, header, _, first, second, _, commands = describe(space, front, 12).splitlines()
    assert header == "| trial | fd_classifier | unlearning_accuracy |"
    assert (first, second) == ("| 7 | 1.5 | 0.25 |", "| 3 | 9 | 1 |")
    assert f"sfd-sweep export {space.name} --knee" in commands
    assert "after 12 trials" in describe(space, front, 12)
    assert "No trial is on the front after 2 trials." in describe(space, {}, 2)
    assert describe(space) == describe(space, front, 12).splitlines()[0]


def front_in_description(store: Store, space: SearchSpace) -> list[int]:
    sweep = find_sweep(store, space.name)
    assert sweep is not None
    rows = sweep.data.tags["mlflow.note.content"].splitlines()
    return [int(row.split("|")[1]) for row in rows if row.startswith("| ") and row[2].isdigit()]


def test_the_description_of_a_recorded_sweep_has_its_last_front(space: SearchSpace, tmp_path: Path) -> None:
    put_generators(Folder.open(tmp_path) / space.name)
    recorder, store = open_recorder(space, tmp_path), Store.open(space.tracking.uri)
    assert front_in_description(store, space) == []
    tell_sweep(recorder, space)
    recorder.close(SweepState.COMPLETE)
    assert front_in_description(store, space) == [0, 1]


def test_the_description_has_final_figures_once_all_members_have_them(space: SearchSpace, tmp_path: Path) -> None:
    put_generators(Folder.open(tmp_path) / space.name)
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    for number, distance in enumerate((0.4375, 0.8125)):
        recorder.final_reported(number, report(20, distance, 0.5))
    recorder.front_changed([1], 8.5, 4, ResourceUsage(0.04, 0.02))
    recorder.close(SweepState.COMPLETE)
    sweep = find_sweep(Store.open(space.tracking.uri), space.name)
    assert sweep is not None
    assert "| 1 | 0.8125 | 0.5 |" in sweep.data.tags["mlflow.note.content"]


def test_the_view_has_every_searched_parameter_and_metric_of_the_search(space: SearchSpace) -> None:
    view = json.loads(trials_view(space))
    assert space.name in view["searchFilter"]
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`score`", True)
    wanted = {f"params.`{name}`" for name in space.parameters.searched()}
    wanted |= {f"metrics.`{part.metric}`" for part in (*space.objectives, *space.constraints)}
    assert wanted <= set(view["selectedColumns"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_the_trials_without_a_click(tracking_uri: str, tmp_path: Path) -> None:
    space = search_space(tracking_uri)
    put_generators(Folder.open(tmp_path) / space.name)
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    recorder.close(SweepState.COMPLETE)
    store = Store.open(tracking_uri)
    sweep = find_sweep(store, None)
    assert sweep is not None
    assert store.client.get_experiment(sweep.info.experiment_id).tags[view_tag(sweep)] == trials_view(space)
    with mlflow_server(tracking_uri, tmp_path) as server:
        browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=2400,1000"]
        shown = [*browser, "--virtual-time-budget=60000", "--dump-dom", page(server, sweep)]
        text = subprocess.run(shown, capture_output=True, text=True, timeout=300, check=True).stdout
    for words in ("trial 0", "trial 1", "fd_classifier", "Model training"):
        assert words in text
