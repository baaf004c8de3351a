"""Generators as MLflow models: logged on a trial's run, and put into the model registry."""

import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.tracking.schema import STEP, Tag
from sfd_sweep.tracking.store import Store, model_uri, refusals_of

MODEL_NAME = "generator"
MODEL_CODE = Path(__file__).with_name("generator_model.py")
REQUIREMENTS = ("mlflow", "torch", "diffusers", "safetensors", "numpy", "pandas", "pillow")
EXAMPLE = pd.DataFrame({"label": [0, 1], "seed": [0, 1]})
PROMPTS = pd.DataFrame({"prompt": ["a photo of a cat", "a drawing of a house"], "seed": [0, 1]})


def log_generator(store: Store, run_id: str, folder: Path) -> str:
    """Make a generator an MLflow model of its trial's run; if the run has one already, that is kept.

    `mlflow.pyfunc.load_model` loads it without sfd_sweep, and its `predict` takes a frame with columns `label`, or
    `prompt`, and `seed` and returns images of shape (n, H, W, C), uint8.

    Args:
        run_id: MLflow run of the trial.
        folder: the generator as a diffusers folder with its pipeline beside it.

    Returns:
        The model's URI, `models:/…`.

    Raises:
        UserError: MLflow refuses it.
    """
    with refusals_of(store.uri), tempfile.TemporaryDirectory() as scratch:
        run = store.client.get_run(run_id)
        logged = model_uri(run)
        if logged:
            return logged
        model = store.client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, run_id, tags=_origin(run), params=run.data.params
        )
        local = Path(scratch) / "model"
        _save(local, folder, Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id))
        store.client.log_model_artifacts(model.model_id, str(local))
        store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, int(run.data.metrics.get(STEP, 0)))])
    return f"models:/{model.model_id}"


def register(store: Store, name: str, run_id: str, alias: str = "champion") -> ModelVersion:
    """Put the model of a trial's run into the registry, once, and give that version the alias.

    Args:
        name: of the registered model: the sweep's.
        run_id: MLflow run of the trial, whose generator has been logged.

    Raises:
        UserError: the run has no model, or MLflow refuses it.
    """
    with refusals_of(store.uri):
        run = store.client.get_run(run_id)
        if not model_uri(run):
            raise UserError(f"{run.info.run_name} of {name} has no model in MLflow yet: log its generator first")
        version = _registered(store.client, name, run_id) or _create_version(store.client, name, run)
        store.client.set_registered_model_alias(name, alias, version.version)
    return version


def _registered(client: MlflowClient, name: str, run_id: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return versions[0] if versions else None


def _create_version(client: MlflowClient, name: str, run: Run) -> ModelVersion:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"One-step generators of the sweep {name}")
    model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    return client.create_model_version(
        name, model.artifact_location, run.info.run_id, tags=_origin(run), model_id=model.model_id
    )


def _origin(run: Run) -> dict[str, str]:
    """The tags of a trial's run that say where its model comes from."""
    return {tag: run.data.tags[tag] for tag in (Tag.SWEEP, Tag.TRIAL, Tag.STORAGE)}


def _save(target: Path, generator: Path, model: Model) -> None:
    """Write the MLflow model: the code, the generator's folder, signature, example and requirements."""
    folder = ModelFolder.open(str(generator))
    channels, height, width = folder.image_shape
    asked = ColSpec("string", "prompt") if folder.reads_text else ColSpec("long", "label")
    libraries = (*REQUIREMENTS, "transformers") if folder.reads_text else REQUIREMENTS
    mlflow.pyfunc.save_model(
        str(target),
        python_model=str(MODEL_CODE),
        artifacts={"generator": str(generator)},
        mlflow_model=model,
        signature=ModelSignature(
            inputs=Schema([asked, ColSpec("long", "seed")]),
            outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, channels))]),
        ),
        input_example=PROMPTS if folder.reads_text else EXAMPLE,
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in libraries],
    )
