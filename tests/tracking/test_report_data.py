"""What the page of a sweep shows, for every sweep that there can be."""

import base64
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from recorded import sweep, trial
from test_tracking_pictures import ERRORS, FORGOTTEN, MIXED, ONE, SWAP, THREE, many
from tracked_sweep import grid, report, search_space

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import AuditFigure, Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.report_data import report_data
from sfd_sweep.tracking.stored_samples import StoredSamples
from sfd_sweep.trial.files import GRID, START_GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState


def of_space(*overrides: str) -> SweepRecord:
    return sweep(*MIXED, space=search_space("sqlite:///unused.db", *overrides))


def shown(record: SweepRecord, folder: Path, reports: dict[int, list[Report]] | None = None) -> dict[str, Any]:
    """The data as the page reads them."""
    data = report_data(record, reports or {}, StoredSamples(Folder.open(folder)), None)
    return json.loads(json.dumps(data, allow_nan=False))


def figures(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("overrides", [ONE, [], THREE, ERRORS, [FORGOTTEN]])
def test_every_trial_is_there_with_the_figures_that_it_is_compared_by(overrides: list[str], tmp_path: Path) -> None:
    final = report(20, 1.25, 0.96, samples=10000)
    judged = [replace(member, final=final) if member.number < 2 else member for member in MIXED]
    record = sweep(*judged, space=search_space("sqlite:///unused.db", *overrides))
    data = shown(record, tmp_path)
    assert [each["number"] for each in data["trials"]] == [each.number for each in record.trials]
    for each, known in zip(data["trials"], record.trials, strict=True):
        assert figures(each["figures"]) == pytest.approx(record.figures(known).metrics, nan_ok=True)
        assert each["judged"] == (record.figures(known) is known.final)
        assert (each["rank"] is not None) == (known in record.front)
        assert each["state"] == known.state
    roles = {role: each["number"] for each in data["trials"] for role in each["roles"]}
    assert roles == {"knee": record.knee().number, "best score": record.best(record.front).number}


@pytest.mark.parametrize("overrides", [ONE, [], THREE], ids=["one objective", "two", "three"])
def test_marks_are_at_the_figures_of_their_trials_and_swap_is_hollow(overrides: list[str], tmp_path: Path) -> None:
    record = replace(of_space(*overrides), swap=SWAP)
    data = shown(record, tmp_path)
    groups = {group["label"]: group for group in data["groups"]}
    assert {"front", "dominated", "infeasible", "pruned or stopped", "running", "knee", "best score"} < set(groups)
    (swap,) = groups["swap: forgets nothing"]["marks"]
    assert (swap["trial"], groups["swap: forgets nothing"]["symbol"]) == (-1, "square-open")
    assert len(swap["place"]) == len(data["axes"]) == max(2, len(record.space.objectives))
    assert data["swap"]["metrics"] == SWAP.metrics


def test_members_of_the_front_have_bars_where_errors_are_stated(tmp_path: Path) -> None:
    groups = {group["label"]: group for group in shown(of_space(*ERRORS), tmp_path)["groups"]}
    reach = [mark["reach"][0][1] for mark in groups["front"]["marks"]]
    assert reach == pytest.approx([math.log10(1.5), math.log10(2.5) - math.log10(2.0)])  # on a logarithmic axis
    assert all(mark["reach"] is None for mark in groups["dominated"]["marks"])
    plain = shown(of_space(), tmp_path)
    assert all(mark["reach"] is None for group in plain["groups"] for mark in group["marks"])


def test_what_counts_as_forgotten_is_said_of_each_trial(tmp_path: Path) -> None:
    record = of_space(FORGOTTEN)
    data = shown(record, tmp_path)
    assert [each["forgotten"] for each in data["trials"]] == [
        record.counts_as_forgotten(each) for each in record.trials
    ]
    assert data["selection"] == "unlearning_accuracy at least 0.95"
    assert {each["forgotten"] for each in shown(of_space(), tmp_path)["trials"]} == {None}


def test_the_command_exports_members_of_the_front_alone_unless_all_generators_are_kept(tmp_path: Path) -> None:
    def commands(record: SweepRecord, uri: str | None = None) -> dict[int, str]:
        data = report_data(record, {}, StoredSamples(Folder.open(tmp_path)), uri)
        return {each["number"]: each["command"] for each in data["trials"] if each["command"]}

    assert commands(of_space(FORGOTTEN)) == {
        0: "sfd-sweep export small --trial 0 --out small-0 --anyway",
        1: "sfd-sweep export small --trial 1 --out small-1",
    }
    assert set(commands(of_space("keep_generators=all"))) == {each.number for each in MIXED}
    uri = "postgresql://me:secret@host/a&b"
    assert commands(of_space(), uri)[0].endswith("--out small-0 --uri 'postgresql://host/a&b'")


def test_learning_curves_have_the_evaluations_of_stopped_trials_too(tmp_path: Path) -> None:
    earlier = {each.number: [report(10, 8.0, 0.5), each.reports[-1]] for each in MIXED}
    curves = shown(of_space(), tmp_path, earlier)["curves"]
    assert [each["axis"]["name"] for each in curves] == ["fd_classifier", "unlearning_accuracy"]
    pruned = curves[0]["lines"]["3"]
    assert pruned == [[10, pytest.approx(math.log10(8.0))], [20, pytest.approx(math.log10(0.5))]]
    assert [step for step, _ in curves[0]["lines"]["5"]] == [10]  # its last evaluation is not finite


def test_hypervolume_rises_over_the_slot_time_of_all_trials_that_ended(tmp_path: Path) -> None:
    record = of_space()
    points = shown(record, tmp_path)["hypervolume"]["points"]
    ended = [each for each in record.trials if each.run.ended]
    assert [number for _, _, number in points] == [each.number for each in ended]
    assert [seconds for seconds, _, _ in points] == pytest.approx([36.0 * (index + 1) for index in range(len(ended))])
    assert points[0][1] == pytest.approx((10 - 1.0) * 0.9)
    assert points[-1][1] == pytest.approx(record.hypervolume())


def test_slot_time_is_that_of_all_evaluations_of_the_final_ones_and_of_swap(tmp_path: Path) -> None:
    judged = replace(MIXED[0], final=report(20, 1.0, 0.9, samples=10000))
    record = replace(sweep(judged, MIXED[1]), swap=SWAP)
    earlier = {number: [report(10, 8.0, 0.5), record.trials[number].reports[-1]] for number in (0, 1)}
    seconds = {part["name"]: part["seconds"] for part in shown(record, tmp_path, earlier)["seconds"]}
    assert seconds == pytest.approx({
        **{"training": 4 * 6.0, "evaluating": 4 * 2.5, "saving": 4 * 0.5},
        **{"waiting": 6 * 0.25, "final evaluation": 2 * 9.0},
    })  # fmt: skip


def test_parameters_have_places_between_their_limits(tmp_path: Path) -> None:
    parameters = {each["name"]: each for each in shown(of_space(), tmp_path)["parameters"]}
    assert parameters["generator_lr"]["limits"] == pytest.approx([-5, -3])
    assert parameters["generator_lr"]["places"]["0"] == pytest.approx(-4)
    assert [parameters["override"]["places"][str(number)] for number in (0, 1)] == [0, 1]
    assert [label for _, label in parameters["override"]["ticks"]] == ["1", "random"]


def test_importance_needs_enough_trials_and_adds_up_to_one(tmp_path: Path) -> None:
    assert shown(of_space(), tmp_path)["importance"]["shares"] == {"fd_classifier": {}, "unlearning_accuracy": {}}
    spread = [
        trial(number, 1 + number % 5, 0.9 - number / 50, generator_lr=1e-5 * (number + 1)) for number in range(12)
    ]
    for shares in shown(sweep(*spread), tmp_path)["importance"]["shares"].values():
        assert sum(shares.values()) == pytest.approx(1)


def put_grid(folder: Path, number: int, content: bytes) -> None:
    step_folder(trial_folder(Folder.open(folder), number), 20).write(GRID, content)


def test_grids_are_those_of_the_storage_and_missing_or_broken_ones_are_left_out(tmp_path: Path) -> None:
    put_grid(tmp_path, 0, grid(77))
    put_grid(tmp_path, 1, b"no picture")
    put_grid(tmp_path, 2, grid()[:40])
    data = shown(of_space(), tmp_path)
    found = {each["number"]: each["grid"] for each in data["trials"] if each["grid"]}
    assert set(found) == {0}
    assert pixel(found[0]) == (77, 77, 77)
    assert data["start"] is None
    Folder.open(tmp_path).write(START_GRID, grid(9))
    assert pixel(shown(of_space(), tmp_path)["start"]) == (9, 9, 9)


def pixel(uri: str) -> tuple[int, ...]:
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(content))).getpixel((3, 3))


def test_a_grid_is_read_once_and_one_that_appears_later_is_found(tmp_path: Path) -> None:
    samples, (first, second) = StoredSamples(Folder.open(tmp_path)), MIXED[:2]
    put_grid(tmp_path, 0, grid(77))
    assert (found := samples.grid(first))
    assert samples.grid(second) is None
    trial_folder(Folder.open(tmp_path), 0).delete()
    put_grid(tmp_path, 1, grid(78))
    assert samples.grid(first) == found
    assert samples.grid(second)


def test_audits_that_the_storage_lacks_are_left_out(tmp_path: Path) -> None:
    audited = AuditFigure("quick", 0.2, 0.1, 0.3, True, "asking", False)
    member = replace(MIXED[0], recorded=replace(MIXED[0].run, audit=audited))
    data = shown(sweep(member, MIXED[1]), tmp_path)
    assert data["audits"] == []
    assert data["trials"][0]["audit"]["value"] == 0.2


@pytest.mark.parametrize("overrides", [ONE, [], THREE, ERRORS, [FORGOTTEN]])
def test_a_sweep_whose_first_trial_has_no_report_has_all_parts(overrides: list[str], tmp_path: Path) -> None:
    def begun(number: int) -> Trial:
        made = trial(number, 1.0, 0.5, TrialState.RUNNING)
        return replace(made, reports=(), recorded=replace(made.run, ended=None, score=None))

    space = search_space("sqlite:///unused.db", *overrides)
    for trials in ((), (begun(0), begun(1)), (begun(0), trial(1, 1.0, 0.5, TrialState.RUNNING))):
        data = shown(sweep(*trials, space=space), tmp_path)
        assert [each["state"] for each in data["trials"]] == ["running"] * len(trials)


def test_four_objectives_have_an_axis_each(tmp_path: Path) -> None:
    four = [THREE[0].replace("]", ", {metric: retain_accuracy, goal: maximize, reference_point: 0}]")]
    trials = [
        replace(each, reports=(replace(each.reports[0], metrics=each.metrics | {"retain_accuracy": 0.9}),))
        for each in many(6, *THREE).trials
    ]
    data = shown(sweep(*trials, space=search_space("sqlite:///unused.db", *four)), tmp_path)
    assert {len(mark["place"]) for group in data["groups"] for mark in group["marks"]} == {len(data["axes"])} == {4}
