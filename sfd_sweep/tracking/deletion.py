"""Deletion of a sweep's record: its runs, their models, and their versions in the model registry."""

from dataclasses import dataclass

from mlflow.entities import Run

from sfd_sweep.tracking.schema import Tag
from sfd_sweep.tracking.store import Store, mlflow_errors


@dataclass(frozen=True)
class SweepTraces:
    """What an MLflow store holds of a sweep.

    Attributes:
        runs: of the sweep and of its trials.
        models: ids of the logged models of these runs.
        versions: of the sweep's registered model that come from these runs.
    """

    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    @classmethod
    def find(cls, store: Store, name: str) -> "SweepTraces":
        """Return what a store holds of a sweep; nothing if it does not know it.

        Raises:
            UserError: MLflow fails.
        """
        with mlflow_errors(store.uri):
            sweeps = [run for run in store.sweep_runs() if run.data.tags[Tag.SWEEP] == name]
            runs = [each for sweep in sweeps for each in (*store.trial_runs(sweep), sweep)]
            ids = tuple(run.info.run_id for run in runs)
            found = store.client.search_model_versions(f"name = '{name}'") if runs else ()
            versions = tuple(str(version.version) for version in found if version.run_id in ids)
        return cls(ids, tuple(model for run in runs for model in _models(run)), versions)

    def delete(self, store: Store, name: str) -> None:
        """Delete everything, the sweep's own run last; the registered model too if no version is left.

        MLflow keeps deleted runs and models until `mlflow gc`.

        Raises:
            UserError: MLflow fails; a repetition deletes the rest.
        """
        client = store.client
        with mlflow_errors(store.uri):
            for version in self.versions:
                client.delete_model_version(name, version)
            if self.versions and not client.search_model_versions(f"name = '{name}'"):
                client.delete_registered_model(name)
            for model in self.models:
                client.delete_logged_model(model)
            for run in self.runs:
                client.delete_run(run)


def _models(run: Run) -> list[str]:
    return [model.model_id for model in run.outputs.model_outputs] if run.outputs else []
