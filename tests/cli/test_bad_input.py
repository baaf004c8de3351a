"""What a user can get wrong: one clear line, exit code 2, no traceback, and nothing made."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sfd_sweep.cli import main
from sfd_sweep.diffusion.model_folder import WEIGHTS, find_model

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"

BAD_KEYS = {
    "an unknown key, with the nearest": ("search.trails=4", "trials"),
    "a wrong type": ("search.trials=many", "search.trials"),
    "low above high": ("parameters.alpha={type: float, low: 2, high: 1}", "parameters.alpha"),
    "a logarithm of zero": ("parameters.generator_lr.low=0", "parameters.generator_lr"),
    "an unknown sampler, with the nearest": ("search.sampler=tpee", "tpe"),
    "an unknown distribution": ("parameters.alpha.type=floot", "float"),
    "an unknown class": ("task.forget=[eleven]", "eleven"),
    "a class beyond the last": ("task.forget=[10]", "10"),
    "the forgotten as its own override": ("parameters.override=0", "override"),
    "a class that is forgotten twice": ("task.forget=[0, 0]", "forget"),
    "an objective that nothing measures": ("objectives.0.metric=fd_clasifier", "fd_classifier"),
    "a direction that is not the metric's": ("objectives.0.goal=maximize", "goal"),
    "no trials": ("search.trials=0", "search.trials"),
    "evaluation beyond the last step": ("trial.evaluate_every=100", "evaluate_every"),
    "an unknown teacher": ("task.teacher=builtin:digit", "builtin:digits"),
    "a teacher that is not there": ("task.teacher=./nowhere", "nowhere"),
    "a kind of storage that is unknown": ("storage=ftp://host/runs", "ftp"),
    "more CPUs than the machine has": ("resources.cpus_per_worker=512", "512"),
    "GPUs that are not there": ("resources.gpus_per_worker=8", "GPU"),
    "a tracking server that is away": ("tracking.uri=http://127.0.0.1:9", "127.0.0.1:9"),
    "a bad override": ("search.trials", "search.trials"),
}


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command says."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert error.startswith("sfd-sweep: error: ")
    return error


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.parametrize(("override", "said"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_run_refuses(override: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(DIGITS), "--set", "search.first=[]", "--set", override]
    assert said in refusal(arguments, capsys)
    assert not (folder / "runs" / "digits-forget-0").exists()


FILES = {
    "a missing file": None,
    "an empty file": "",
    "bad YAML": "name: [",
    "a list instead of keys": "- name",
    "missing keys": "name: x",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_run_refuses_a_file_that_is(content: str | None, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (folder / "space.yaml").write_text(content)
    assert "space.yaml" in refusal(["run", "space.yaml"], capsys)
    assert not (folder / "runs").exists()


def test_a_run_refuses_a_space_with_nothing_to_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (
        "generator_lr",
        "fake_score_lr_ratio",
        "forget_weight",
        "fake_score_forget_weight",
        "guidance_scale",
        "alpha",
        "override",
    )
    fixed = [f"parameters.{name}=1" for name in names]
    arguments = ["run", str(DIGITS), "--set", "search.first=[]"]
    for each in fixed:
        arguments += ["--set", each]
    assert "nothing is searched" in refusal(arguments, capsys)


def test_a_run_refuses_a_teacher_whose_weights_are_cut_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(find_model("builtin:digits"), folder / "teacher")
    weights = folder / "teacher" / "unet" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    arguments = ["run", str(DIGITS), "--set", f"task.teacher={folder / 'teacher'}", "--set", "task.start=teacher"]
    assert WEIGHTS in refusal(arguments, capsys)
    assert not (folder / "runs").exists()


def test_a_run_refuses_storage_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("in the way")
    assert "storage" in refusal(["run", str(DIGITS), "--set", f"storage={folder / 'file' / 'runs'}"], capsys)


@pytest.mark.parametrize("command", [["show", "nothing"], ["pareto", "nothing"], ["list"], ["resume", "nothing"]])
def test_reading_without_a_record_is_refused(
    command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "mlflow.db" in refusal(command, capsys)
    assert not list(folder.iterdir())


def test_an_unknown_command_and_an_unknown_option_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(["runn"], capsys)
    refusal(["list", "--urri", "x"], capsys)


def test_a_folder_that_exists_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir()
    assert "--force" in refusal(["pretrain", "builtin:digits", "--out", "out"], capsys)


def test_the_program_itself_refuses_in_one_line(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "sfd_sweep", "run", "missing.yaml"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("sfd-sweep: error: missing.yaml: no such file")
    assert done.stderr.count("\n") == 1
