"""Generators as MLflow models."""

import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from tiny_latent_models import tiny_latent_model
from tracked_sweep import open_recorder, tell_sweep

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import find_model
from sfd_sweep.search.records import SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.model_registry import log_generator, register
from sfd_sweep.tracking.reader import read_sweep
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.files import GENERATOR, step_folder, trial_folder

GENERATOR_FOLDER = find_model("builtin:digits-distilled")

LOAD_AND_PREDICT = """
import sys, mlflow, numpy, pandas
uri, out = sys.argv[1:]
frame = pandas.DataFrame({"label": [3, 3, 7], "seed": [5, 6, 7]})
model = mlflow.pyfunc.load_model(uri)
images = model.predict(frame)
alone = model.predict(frame.iloc[[2]])
assert "sfd_sweep" not in sys.modules
numpy.savez(out, images=images, alone=alone)
"""


def put_generators(sweep_folder: Folder) -> None:
    for number in (0, 1):
        (step_folder(trial_folder(sweep_folder, number), 20) / GENERATOR).upload(GENERATOR_FOLDER)


def predict_elsewhere(model_uri: str, tracking_uri: str, folder: Path) -> dict[str, np.ndarray]:
    """In a fresh process, in a folder where sfd_sweep cannot be imported by chance."""
    script = folder / "predict.py"
    script.write_text(LOAD_AND_PREDICT)
    environment = {"MLFLOW_TRACKING_URI": tracking_uri, "HOME": str(folder), "OMP_NUM_THREADS": "1", "PATH": ""}
    subprocess.run([sys.executable, str(script), model_uri, "out.npz"], cwd=folder, env=environment, check=True)
    return dict(np.load(folder / "out.npz"))


@pytest.fixture
def complete_sweep(space: SearchSpace, tmp_path: Path) -> SearchSpace:
    put_generators(Folder.open(tmp_path) / space.name)
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    recorder.close(SweepState.COMPLETE)
    return space


def test_the_front_of_a_complete_sweep_has_models(complete_sweep: SearchSpace, tracking_uri: str) -> None:
    uris = [trial.run.model_uri for trial in read_sweep(tracking_uri, "small").trials]
    assert all(uri and uri.startswith("models:/m-") for uri in uris[:2])
    assert uris[2:] == [None, None]


def test_a_model_makes_the_generators_images_in_a_process_without_sfd_sweep(
    complete_sweep: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    store = Store.open(tracking_uri)
    (trial, *_) = read_sweep(tracking_uri, "small").trials
    register(store, "small", trial.run.run_id)
    found = predict_elsewhere("models:/small@champion", tracking_uri, tmp_path)
    generator = OneStepGenerator.load(GENERATOR_FOLDER)
    images = generator.sample([3, 3, 7], seed=5)  # image i has seed 5 + i
    expected = np.rint((images.permute(0, 2, 3, 1).numpy() / 2 + 0.5) * 255)
    assert found["images"].dtype == np.uint8
    assert found["images"].shape == (3, 8, 8, 1)
    assert np.abs(found["images"] - expected).max() <= 1  # rounding
    assert np.abs(found["alone"][0].astype(int) - found["images"][2]).max() <= 1


def test_a_model_says_what_it_takes_gives_and_needs(complete_sweep: SearchSpace, tracking_uri: str) -> None:
    import mlflow

    (trial, *_) = read_sweep(tracking_uri, "small").trials
    folder = Path(
        MlflowClient(tracking_uri).get_logged_model(trial.run.model_uri.removeprefix("models:/")).artifact_location
    )
    model = mlflow.models.Model.load(str(folder))
    assert model.signature.inputs.input_names() == ["label", "seed"]
    assert model.signature.outputs.inputs[0].shape == (-1, 8, 8, 1)
    assert model.load_input_example(str(folder)).columns.tolist() == ["label", "seed"]
    requirements = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} >= {"mlflow", "torch", "diffusers", "safetensors"}
    assert not any("sfd" in line for line in requirements)


def test_models_and_versions_are_made_once(complete_sweep: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    store = Store.open(tracking_uri)
    first, second, *_ = read_sweep(tracking_uri, "small").trials
    assert log_generator(store, first.run.run_id, GENERATOR_FOLDER) == first.run.model_uri
    versions = [
        register(store, "small", run_id).version for run_id in (first.run.run_id, first.run.run_id, second.run.run_id)
    ]
    assert list(map(int, versions)) == [1, 1, 2]
    champion = store.client.get_model_version_by_alias("small", "champion")
    assert champion.run_id == second.run.run_id
    assert champion.tags["sfd.trial"] == "1"

    recorder = open_recorder(complete_sweep, tmp_path, resume=True)
    tell_sweep(recorder, complete_sweep)
    recorder.close(SweepState.COMPLETE)
    experiment = store.client.get_run(first.run.run_id).info.experiment_id
    assert len(store.client.search_logged_models([experiment])) == 2


def test_a_trial_without_a_model_cannot_be_registered(complete_sweep: SearchSpace, tracking_uri: str) -> None:
    trial = read_sweep(tracking_uri, "small").trials[2]
    with pytest.raises(UserError, match="trial 2 of small has no model"):
        register(Store.open(tracking_uri), "small", trial.run.run_id)


def test_a_stopped_sweep_has_no_models_yet(space: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    put_generators(Folder.open(tmp_path) / space.name)
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    recorder.close(SweepState.STOPPED)
    assert {trial.run.model_uri for trial in read_sweep(tracking_uri, "small").trials} == {None}


def test_a_generator_that_was_not_kept_is_named(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    recorder.close(SweepState.COMPLETE)
    assert "no model is logged for trial 1 on the front" in caplog.text


def test_a_latent_generators_model_makes_images_of_the_size_that_it_says(
    complete_sweep: SearchSpace, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = OneStepGenerator(tiny_latent_model(), 440)
    generator.save(tmp_path / "latent")
    (*_, trial) = read_sweep(tracking_uri, "small").trials
    uri = log_generator(Store.open(tracking_uri), trial.run.run_id, tmp_path / "latent")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    model = mlflow.pyfunc.load_model(uri)
    assert model.metadata.signature.outputs.inputs[0].shape == (-1, 8, 8, 3)
    images = model.predict(pd.DataFrame({"label": [2, 0], "seed": [5, 6]}))
    expected = generator.sample([2, 0], seed=5).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    np.testing.assert_allclose(images / 255, expected, atol=0.5 / 255 + 1e-5)
