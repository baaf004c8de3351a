"""The public Python API: what `import sfd_sweep` offers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sfd_sweep

DIGITS = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"


def test_the_import_takes_under_three_tenths_of_a_second_and_loads_nothing_heavy():
    def seconds() -> float:
        code = (
            "import time; began = time.perf_counter(); import sfd_sweep; print(time.perf_counter() - began);"
            "import sys; assert not {'torch', 'ray', 'mlflow', 'pandas', 'pydantic', 'optuna'} & set(sys.modules)"
        )
        return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", sfd_sweep.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(sfd_sweep, name)
    assert name in dir(sfd_sweep)


@pytest.mark.parametrize("name", [name for name in sfd_sweep.__all__ if not name.startswith("_")])
def test_every_public_name_is_explained(name):
    assert len(getattr(sfd_sweep, name).__doc__) > 40


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sweep_everything'"):
        _ = sfd_sweep.sweep_everything  # type: ignore[attr-defined]


def test_a_search_space_is_loaded_with_overrides():
    space = sfd_sweep.load_search_space(DIGITS, ["budget.trials=4"])
    assert (space.name, space.budget.trials) == ("digits-forget-0", 4)


def test_mistakes_are_user_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for mistake in (
        lambda: sfd_sweep.load_search_space("missing.yaml"),
        lambda: sfd_sweep.open_sweep("unknown"),
        lambda: sfd_sweep.load_generator("builtin:digits"),
        lambda: sfd_sweep.resume(tmp_path),
    ):
        with pytest.raises(sfd_sweep.UserError):
            mistake()


def test_a_generator_makes_an_image_for_each_label_by_index_or_name():
    generator = sfd_sweep.load_generator("builtin:digits-distilled")
    assert isinstance(generator, sfd_sweep.OneStepGenerator)
    images = generator.sample([0, "3", 7], seed=5)
    assert images.shape == (3, 1, 8, 8)
    assert images.abs().max() <= 1
    assert torch.allclose(images[1:2], generator.sample([3], seed=6), atol=1e-4)


@pytest.mark.slow
def test_type_checkers_see_what_the_names_are(tmp_path):
    (tmp_path / "notebook.py").write_text(
        "import sfd_sweep\n"
        "reveal_type(sfd_sweep.load_search_space('x.yaml'))\n"
        "reveal_type(sfd_sweep.run(sfd_sweep.load_search_space('x.yaml')))\n"
        "reveal_type(sfd_sweep.open_sweep('x').select(knee=True).why)\n"
        "reveal_type(sfd_sweep.__version__)\n"
    )
    program = [sys.executable, "-m", "mypy", "--config-file", str(DIGITS.parents[1] / "pyproject.toml")]
    said = subprocess.run([*program, str(tmp_path / "notebook.py")], capture_output=True, text=True, check=False).stdout
    revealed = [line.rpartition(" ")[2].strip('"').rpartition(".")[2] for line in said.splitlines()[:4]]
    assert revealed == ["SearchSpace", "Outcome", "str", "str"]
