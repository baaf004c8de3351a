"""The application: start-up time, help, and version."""

import subprocess
import sys
import time

import pytest

COMMANDS = [
    *(
        "init",
        "run",
        "resume",
        "add",
        "stop",
        "retry",
        "watch",
        "logs",
        "delete",
        "doctor",
        "schema",
        "list",
        "show",
        "pareto",
        "compare",
        "report",
        "ui",
    ),
    *(
        "export",
        "sample",
        "evaluate",
        "audit",
        "verify",
        "pretrain",
        "distill",
        "train-classifier",
        "import-checkpoint",
    ),
]
HEAVY = (
    "torch",
    "ray",
    "mlflow",
    "optuna",
    "pandas",
    "numpy",
    "matplotlib",
    "diffusers",
    "pydantic",
    "sfd_sweep.config",
)


def test_help_answers_in_under_half_a_second():
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sfd_sweep", "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5


def test_the_program_loads_nothing_heavy_before_a_command_needs_it():
    code = f"import sys, sfd_sweep.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


def test_help_names_every_command_in_one_line(command):
    said = command("--help")
    assert said.code == 0
    listed = said.out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == COMMANDS
    assert not [line for line in listed if line.endswith("...")]


def test_no_arguments_mean_help(command):
    assert command().out == command("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(command, name):
    said = command(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: sfd-sweep {name} ")


def test_the_version_is_the_installed_one(command):
    from importlib.metadata import version

    assert command("--version").out == f"sfd-sweep {version('sfd-sweep')}\n"


def test_the_schema_is_that_of_the_file(command):
    import json

    from sfd_sweep.config import json_schema

    assert json.loads(command("schema").out) == json_schema()
