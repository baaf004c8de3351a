"""What an export leaves behind when all goes well, and that it leaves nothing when not."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image
from recorded_trials import FAILED, FRONT, LOST, PRUNED, Sweep
from safetensors.numpy import load_file, save_file

from sfd_sweep.config import SelectionBounds
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation import evaluator
from sfd_sweep.evaluation.sample_grid import GAP
from sfd_sweep.export.contents import _portable_images as portable_source
from sfd_sweep.export.exporting import Exported, export_trial
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.results import Results, Selection
from sfd_sweep.trial.files import trial_folder
from sfd_sweep.trial.report import Report
from sfd_sweep.trial.runner import load_generator

LOAD_ELSEWHERE = """
import sys
import numpy
from diffusers import DiffusionPipeline

folder = sys.argv[1]
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
images = pipe(labels=[0, 3, "7", 0], seeds=[11, 12, 13, 14], output_type="np").images
numpy.save(sys.argv[2], images)
assert not [name for name in sys.modules if name.startswith("sfd_sweep")], "sfd_sweep was imported"
"""
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def choice_of(results: Results, number: int, report: Report | None = None, final: Report | None = None) -> Selection:
    """A trial, with other figures than the recorded ones if they are given."""
    trial = next(trial for trial in results.record.trials if trial.number == number)
    return Selection(replace(trial, reports=(report or trial.report,), final=final), "It was asked for.")


def altered(report: Report, **metrics: float) -> Report:
    return replace(report, metrics=report.metrics | metrics)


def test_the_folder_loads_where_sfd_sweep_is_not_and_makes_the_generators_images(
    sweep: Sweep, exported: Exported, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-c", LOAD_ELSEWHERE, str(exported.folder), str(tmp_path / "images.npy")],
        cwd=tmp_path,
        check=True,
    )
    trial = trial_folder(Folder.open(sweep.results.record.summary.storage), FRONT)
    expected = load_generator(trial, 4).sample([0, 3, "7", 0], seed=11) / 2 + 0.5
    images = np.load(tmp_path / "images.npy")
    np.testing.assert_allclose(images, expected.permute(0, 2, 3, 1), rtol=0, atol=1e-5)


def test_the_exported_figures_are_the_final_ones_bit_for_bit_on_the_same_device(
    sweep: Sweep, exported: Exported
) -> None:
    final = sweep.results.record.trials[FRONT].final
    assert final is not None
    assert exported.recorded.metrics == final.metrics
    assert exported.found.metrics == final.metrics
    assert exported.found.samples == final.samples == {"retained": 180, "forgotten": 100}


def test_the_folder_holds_what_it_promises_and_nothing_else(exported: Exported) -> None:
    files = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    pictures = {"grid.png", "before.png", "front.png", "audit.png"}
    assert files == pictures | {
        "README.md",
        "SHA256SUMS",
        "audit.json",
        "classifier/config.json",
        "classifier/model.safetensors",
        "model_index.json",
        "pipeline.py",
        "scheduler/scheduler_config.json",
        "sfd_sweep.json",
        "unet/config.json",
        WEIGHTS,
    }
    assert all(Image.open(exported.folder / name).size > (100, 100) for name in pictures)
    assert json.loads((exported.folder / "model_index.json").read_text())["id2label"]["7"] == "7"
    assert [path.name for path in exported.folder.parent.iterdir()] == ["zero-free"]


def test_before_and_after_show_as_many_images_as_a_trials_grid(
    sweep: Sweep, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "GRID_LARGE", 7)  # digits have 8 pixels a side
    few = export_trial(
        sweep.results, sweep.results.select(trial=FRONT), tmp_path / "few", alias=None, audit=None, uri=sweep.uri
    )
    for name in ("grid.png", "before.png"):
        widths = [Image.open(each.folder / name).width for each in (exported, few)]
        assert widths[0] - widths[1] == 6 * (32 + 2 * GAP)


def test_sha256sum_finds_the_folder_whole(exported: Exported) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=exported.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{WEIGHTS}: OK" in done.stdout


def test_no_file_tells_a_path_of_the_machine(sweep: Sweep, exported: Exported) -> None:
    places = {str(sweep.folder), str(exported.folder.parent), str(Path.home()), str(Path.cwd())} - {"/"}
    for path in exported.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [place for place in places if f"{place}/".encode() in content], path


def test_the_generator_is_registered_under_the_sweeps_name_with_the_alias(
    sweep: Sweep, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(sweep.uri)
    version = client.get_model_version_by_alias("small", "champion")
    assert exported.registered == f"models:/small/{version.version}"
    assert version.run_id == sweep.results.record.trials[FRONT].run.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sweep.uri)
    model = mlflow.pyfunc.load_model("models:/small@champion")
    images = model.predict(pd.DataFrame({"label": [0, 3], "seed": [4, 5]}))
    expected = OneStepGenerator.load(exported.folder).sample([0, 3], seed=4) / 2 + 0.5
    np.testing.assert_allclose(images[..., 0] / 255, expected[:, 0], atol=0.5 / 255 + 1e-5)


def selecting(sweep: Sweep, least: float) -> Results:
    """The sweep, whose file counts as forgotten what has this unlearning accuracy at least."""
    space = sweep.results.record.space.model_copy(
        update={"selection": SelectionBounds(min={"unlearning_accuracy": least})}
    )
    return Results(replace(sweep.results.record, space=space))


def test_a_trial_that_does_not_count_as_forgotten_is_exported_only_anyway_and_its_card_says_so(
    sweep: Sweep, tmp_path: Path
) -> None:
    final = sweep.results.record.trials[FRONT].final
    assert final is not None
    accuracy = final.metrics["unlearning_accuracy"]
    results = selecting(sweep, 1.0)
    assert accuracy < 1
    choice = results.select(trial=FRONT)
    with pytest.raises(UserError, match=r"^trial 0 of small does not count as forgotten: .*--anyway exports this one"):
        export_trial(results, choice, tmp_path / "refused", uri=sweep.uri)
    assert not list(tmp_path.iterdir())

    made = export_trial(results, choice, tmp_path / "made", alias=None, anyway=True, uri=sweep.uri)
    card = (made.folder / "README.md").read_text()
    reason = f"unlearning_accuracy is {accuracy:.6g} and must be at least 1"
    assert f"**This generator does not count as having forgotten 0**: {reason}. It was exported all the same." in card
    assert "was trained to forget **0**: asked for 0, it should make **1**" in card
    assert "has forgotten **0**" not in card
    assert "A generator counts as forgotten with `unlearning_accuracy` ≥ 1; this one does not." in card
    described = json.loads((made.folder / "sfd_sweep.json").read_text())
    assert described["counts_as_forgotten"] is False
    assert described["selection"] == {"min": {"unlearning_accuracy": 1.0}, "max": {}}


def test_a_trial_that_counts_as_forgotten_is_exported_and_its_card_says_by_what(sweep: Sweep, tmp_path: Path) -> None:
    results = selecting(sweep, 0.0)
    made = export_trial(results, results.select(trial=FRONT), tmp_path / "made", alias=None, uri=sweep.uri)
    card = (made.folder / "README.md").read_text()
    assert "has forgotten **0**: asked for 0, it makes **1**. " in card
    assert "A generator counts as forgotten with `unlearning_accuracy` ≥ 0; this one does." in card
    assert json.loads((made.folder / "sfd_sweep.json").read_text())["counts_as_forgotten"] is True


def test_an_export_of_a_sweep_that_does_not_say_what_counts_as_forgotten_does_not_say_it_either(
    exported: Exported,
) -> None:
    assert json.loads((exported.folder / "sfd_sweep.json").read_text())["counts_as_forgotten"] is None
    assert "counts as forgotten" not in (exported.folder / "README.md").read_text()


def test_the_alias_moves_with_the_next_export_and_a_pruned_trial_has_its_own_version(
    sweep: Sweep, exported: Exported, tmp_path: Path
) -> None:
    choice = sweep.results.select(trial=PRUNED)
    pruned = export_trial(sweep.results, choice, tmp_path / "pruned", alias="latest-try", audit=None, uri=sweep.uri)
    assert pruned.registered != exported.registered
    client = MlflowClient(sweep.uri)
    assert client.get_model_version_by_alias("small", "latest-try").run_id == choice.trial.run.run_id
    again = export_trial(
        sweep.results,
        sweep.results.select(trial=FRONT),
        tmp_path / "again",
        alias="latest-try",
        audit=None,
        uri=sweep.uri,
    )
    assert again.registered == exported.registered
    moved = client.get_model_version_by_alias("small", "latest-try")
    assert moved.run_id == sweep.results.record.trials[FRONT].run.run_id
    assert "pruned after 2 steps" in (tmp_path / "pruned" / "README.md").read_text()
    assert "This trial is not on it" in (tmp_path / "pruned" / "README.md").read_text()


def test_without_an_alias_the_registry_is_left_alone(sweep: Sweep, tmp_path: Path) -> None:
    before = MlflowClient(sweep.uri).search_model_versions("name = 'small'")
    done = export_trial(
        sweep.results, choice_of(sweep.results, PRUNED), tmp_path / "out", alias=None, audit=None, uri=sweep.uri
    )
    assert done.registered is None
    assert MlflowClient(sweep.uri).search_model_versions("name = 'small'") == before


def test_an_alias_that_mlflow_refuses_is_told_and_the_verified_folder_stays(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out is written and verified, but it is not registered: .* failed"):
        export_trial(
            sweep.results,
            sweep.results.select(trial=FRONT),
            tmp_path / "out",
            alias="not an alias!",
            audit=None,
            uri=sweep.uri,
        )
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.parametrize(
    ("metric", "value"), [("fd_classifier", 0.001), ("retain_accuracy", 0.2), ("forget_entropy", 9.0)]
)
def test_other_figures_than_the_recorded_ones_are_refused_and_nothing_is_left(
    sweep: Sweep, tmp_path: Path, metric: str, value: float
) -> None:
    report = sweep.results.record.trials[FRONT].report
    assert report is not None
    choice = choice_of(sweep.results, FRONT, report=altered(report, **{metric: value}))
    found = f"{report.metrics[metric]:.4g}"
    with pytest.raises(
        UserError, match=rf"{metric} was recorded as {value:g}, but .* has {re.escape(found)} .*restore"
    ):
        export_trial(sweep.results, choice, tmp_path / "out", uri=sweep.uri)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_changed_in_storage_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    weights = Path(trial_folder(Folder.open(sweep.results.record.summary.storage), FRONT).path)
    weights = weights / "step-000004" / "generator" / WEIGHTS
    original = weights.read_bytes()
    tensors = load_file(weights)
    try:
        save_file({name: tensor * 1.1 for name, tensor in tensors.items()}, weights)
        with pytest.raises(UserError, match="was recorded as"):
            export_trial(sweep.results, sweep.results.select(trial=FRONT), tmp_path / "out", uri=sweep.uri)
    finally:
        weights.write_bytes(original)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_touched(sweep: Sweep, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    choice = sweep.results.select(trial=PRUNED)
    with pytest.raises(UserError, match=r"exists already.*--force"):
        export_trial(sweep.results, choice, folder, uri=sweep.uri)
    report = sweep.results.record.trials[FRONT].report
    assert report is not None
    bad = choice_of(sweep.results, FRONT, report=altered(report, fd_classifier=1000.0))
    with pytest.raises(UserError, match="was recorded as"):
        export_trial(sweep.results, bad, folder, force=True, uri=sweep.uri)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(folder.parent.iterdir()) == [folder]


def test_force_replaces_an_exported_folder_by_a_verified_one(sweep: Sweep, folder: Path) -> None:
    (folder / "old.txt").write_text("old")
    export_trial(
        sweep.results, sweep.results.select(trial=PRUNED), folder, force=True, alias=None, audit=None, uri=sweep.uri
    )
    assert not (folder / "old.txt").exists()
    assert json.loads((folder / "sfd_sweep.json").read_text())["lineage"]["trial"] == PRUNED
    assert list(folder.parent.iterdir()) == [folder]


def test_force_never_replaces_anything_but_an_exported_folder(sweep: Sweep, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="precious is no exported generator, so it is not replaced"):
        export_trial(sweep.results, sweep.results.select(trial=FRONT), precious, force=True, uri=sweep.uri)
    assert (precious / "thesis.tex").is_file()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (FAILED, "trial 2 of small is failed and has no weights; choose another trial"),
        (LOST, "trial 3 of small is complete and has no weights in .*; choose another trial, or restore"),
    ],
)
def test_a_trial_without_weights_is_refused_in_one_line(
    sweep: Sweep, tmp_path: Path, number: int, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        export_trial(sweep.results, choice_of(sweep.results, number), tmp_path / "out", uri=sweep.uri)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_whose_generator_was_not_kept_says_why_and_what_to_do(sweep: Sweep, tmp_path: Path) -> None:
    record = sweep.results.record
    pruned = Results(replace(record, summary=replace(record.summary, storage=(tmp_path / "empty").as_uri())))
    expected = "trial 1 of small is pruned and not on the front, so its generator was not kept: choose a member of the "
    expected += r"front \([03, ]+\), or run a sweep with `keep_generators: all`"
    with pytest.raises(UserError, match=expected):
        export_trial(pruned, pruned.select(trial=PRUNED), tmp_path / "out", uri=sweep.uri)


def test_a_target_in_no_folder_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*/nowhere to export into"):
        export_trial(sweep.results, sweep.results.select(trial=FRONT), tmp_path / "nowhere" / "out", uri=sweep.uri)


def test_a_generator_is_exported_without_its_teacher_and_start_where_they_are_gone(
    sweep: Sweep, tmp_path: Path
) -> None:
    record = sweep.results.record
    task = record.space.task.model_copy(update={"teacher": str(tmp_path / "gone"), "start": "teacher"})
    results = Results(replace(record, space=record.space.model_copy(update={"task": task})))
    done = export_trial(results, results.select(trial=FRONT), tmp_path / "out", alias=None, uri=sweep.uri)
    card = (done.folder / "README.md").read_text()
    assert "`gone`, its weights were not found on export" in card
    assert "Not tried: the start and `swap`: the start is unknown, or not on this machine" in card
    assert not (done.folder / "before.png").exists()
    assert "before.png" not in card


@pytest.mark.parametrize(
    ("source", "portable"),
    [
        ("{here}/data/cifar10", "cifar10"),
        ("{here}/data/cifar10:train", "cifar10:train"),
        ("data/cifar10:train", "cifar10:train"),
        ("data/coco.parquet", "coco.parquet"),
        ("builtin:digits", "builtin:digits"),
        ("uoft-cs/cifar10:test", "uoft-cs/cifar10:test"),
    ],
)
def test_a_source_is_described_without_its_place_on_this_machine(
    source: str, portable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    (tmp_path / "data" / "coco.parquet").touch()
    assert portable_source(source.format(here=tmp_path)) == portable
