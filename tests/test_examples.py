"""The notebook in `examples/` runs from its first cell to its last."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOTEBOOK = Path(__file__).parent.parent / "examples" / "digits.ipynb"
TINY = [
    *("budget.trials=1", "trial.steps=2", "trial.evaluate_every=2", "constraints=[]", "selection={}"),
    *("evaluation.samples=90", "evaluation.forget_samples=40", "evaluation.final_samples=null"),
    *("resources.slots=1", "parameters.batch_size=8", "parameters.forget_batch_size=4"),
]


@pytest.fixture(scope="module")
def executed() -> Iterator[nbformat.NotebookNode]:
    """The notebook after a run with a small budget, set in its cell tagged `parameters`."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = f"overrides = {TINY}\naudit = None"
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield client.execute()


def test_the_notebook_runs_a_sweep_and_exports_a_generator(executed):
    (exported,) = (cell for cell in executed.cells if "export_trial(" in cell.source)
    files = exported.outputs[-1]["data"]["text/plain"]
    assert "model_index.json" in files
    assert "README.md" in files


def test_the_notebook_draws_the_front_and_samples(executed):
    pictures = [
        output for cell in executed.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2


def test_the_notebook_is_stored_with_small_outputs():
    assert NOTEBOOK.stat().st_size < 100_000
