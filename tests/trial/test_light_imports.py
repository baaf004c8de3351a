"""What commands that only look need not wait for."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "ray", "mlflow", "optuna", "pandas", "matplotlib")


@pytest.mark.parametrize(
    "statement",
    [
        "from sfd_sweep.models.folder import ModelFolder; ModelFolder.open('builtin:digits').parameter_count",
        "import sfd_sweep.trial.resolve",
        "import sfd_sweep.trial.files, sfd_sweep.trial.report",
        "import sfd_sweep.config, sfd_sweep.errors, sfd_sweep.storage.folder",
    ],
)
def test_looking_at_a_sweep_loads_no_heavy_package(statement):
    loaded = f"import sys; {statement}; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_the_driver_of_a_sweep_needs_no_torch():
    statement = "import sys, sfd_sweep.execution.run; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
