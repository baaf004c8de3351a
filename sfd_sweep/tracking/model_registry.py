"""Generators as MLflow models: logged on a trial's run, and registered in the model registry."""

import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.tracking.schema import STEP, Tag
from sfd_sweep.tracking.store import Store, mlflow_errors, model_uri

MODEL_NAME = "generator"
MODEL_CODE = Path(__file__).with_name("generator_model.py")
REQUIREMENTS = ("mlflow", "torch", "diffusers", "safetensors", "numpy", "pandas", "pillow")


def log_generator(store: Store, run_id: str, folder: Path) -> str:
    """Return the URI (`models:/…`) of a trial's generator in MLflow, and log it first if its run has no model.

    `mlflow.pyfunc.load_model` loads the model without sfd_sweep. Its `predict` takes a frame with columns `seed` and
    `label` or `prompt`, and returns images of shape (n, H, W, C), uint8.

    Args:
        run_id: MLflow run of the trial.
        folder: diffusers folder of the generator, including its pipeline.

    Raises:
        UserError: MLflow fails.
    """
    with mlflow_errors(store.uri), tempfile.TemporaryDirectory() as scratch:
        run = store.client.get_run(run_id)
        if logged := model_uri(run):
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
    """Register the model of a trial's run, unless it is registered already, and assign the alias to that version.

    Args:
        name: the registered model: the sweep's name.
        run_id: MLflow run of the trial.

    Raises:
        UserError: the run has no model, or MLflow fails.
    """
    with mlflow_errors(store.uri):
        run = store.client.get_run(run_id)
        if not model_uri(run):
            raise UserError(f"{run.info.run_name} of {name} has no model in MLflow yet: log its generator first")
        versions = store.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        registered: ModelVersion = versions[0] if versions else _create_version(store, name, run)
        store.client.set_registered_model_alias(name, alias, registered.version)
    return registered


def _create_version(store: Store, name: str, run: Run) -> ModelVersion:
    if not store.client.search_registered_models(f"name = '{name}'"):
        store.client.create_registered_model(name, description=f"One-step generators of the sweep {name}")
    model = store.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    return store.client.create_model_version(
        name, model.artifact_location, run.info.run_id, tags=_origin(run), model_id=model.model_id
    )


def _origin(run: Run) -> dict[str, str]:
    tags = (Tag.SWEEP, Tag.TRIAL, Tag.STORAGE, Tag.FORGOTTEN)
    return {tag: run.data.tags[tag] for tag in tags if tag in run.data.tags}


def _save(target: Path, generator: Path, model: Model) -> None:
    """Write the MLflow model: code, generator, signature, example and requirements."""
    folder = ModelFolder.open(str(generator))
    channels, height, width = folder.image_shape
    column, column_type = folder.kind.column
    libraries = (*REQUIREMENTS, *folder.kind.libraries)
    mlflow.pyfunc.save_model(
        str(target),
        python_model=str(MODEL_CODE),
        artifacts={"generator": str(generator)},
        mlflow_model=model,
        signature=ModelSignature(
            inputs=Schema([ColSpec(column_type, column), ColSpec("long", "seed")]),
            outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, channels))]),
        ),
        input_example=pd.DataFrame({column: folder.kind.examples, "seed": [0, 1]}),
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in libraries],
    )
