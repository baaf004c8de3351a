"""Deletion of a sweep."""

import shutil
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelOutput
from recorded_sweep import NAME, record_sweep

from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import one_driver
from sfd_sweep.tracking.store import Store


@pytest.fixture
def sweep(folder: Path) -> Path:
    """A recorded sweep, with its file, beside the folder of another one."""
    record_sweep(folder)
    sweep = folder / "runs" / NAME
    shutil.copy(Path(Store.open().client.download_artifacts(run_ids()[-1], "search_space.yaml")), sweep / "config.yaml")
    (folder / "runs" / "other").mkdir()
    return sweep


def run_ids() -> list[str]:
    """The runs of trials, then that of the sweep."""
    store = Store.open()
    return [run.info.run_id for sweep in store.sweep_runs() for run in (*store.trial_runs(sweep), sweep)]


def test_a_sweep_is_deleted_with_its_runs_and_models_and_its_name_is_free_again(command, sweep, folder, monkeypatch):
    client, trial = Store.open().client, run_ids()[0]
    model = client.create_logged_model("1", "generator", trial)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(trial, [LoggedModelOutput(model.model_id, 0)])
    client.create_registered_model(NAME)
    client.create_model_version(NAME, model.artifact_location, trial, model_id=model.model_id)

    with one_driver(Folder.open(sweep)):
        said = command("delete", NAME, "--yes")
    assert (said.code, said.err) == (2, f"sfd-sweep: error: {NAME} is being run; `sfd-sweep stop {NAME}` stops it\n")
    assert "--yes deletes without asking" in command("delete", NAME).err
    asked = []
    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stdin.isatty", lambda: True)
        terminal.setattr("builtins.input", lambda text: asked.append(text) or "n")
        said = command("delete", NAME)
    assert (said.code, said.err) == (2, "sfd-sweep: error: nothing was deleted\n")
    assert f"the folder {sweep}, and 6 runs, 1 models, 1 registered versions" in asked[0]
    assert (len(run_ids()), sweep.is_dir()) == (6, True)

    assert command("delete", NAME, "--yes").out == f"{NAME} is deleted\n"
    assert (run_ids(), client.search_registered_models(), client.search_logged_models(["1"])) == ([], [], [])
    assert [path.name for path in (folder / "runs").iterdir()] == ["other"]
    said = command("delete", NAME, "--yes")
    assert (said.code, said.err.count("\n")) == (2, 1)

    record_sweep(folder)
    shutil.rmtree(sweep)
    assert command("delete", NAME, "--yes").code == 0
    assert run_ids() == []
