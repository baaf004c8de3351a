"""Sweeps through the program itself, with Ray."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
SMALL = [
    *("search.first=[]", "budget.trials=2", "trial.steps=2", "trial.evaluate_every=1", "resources.slots=1"),
    *("evaluation.samples=90", "evaluation.forget_samples=20", "evaluation.final_samples=null"),
    *("constraints=[]", "parameters.batch_size=8", "parameters.forget_batch_size=4"),
]


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sfd_sweep", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def settings(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def test_a_sweep_says_what_happens_and_what_to_type_next_and_is_not_run_twice(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = program(tmp_path, "run", str(DIGITS), *settings(*SMALL))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +[\d.]+ s  trial 1 at step 2: fd_classifier [\d.]+, unlearning_accuracy ", done.stdout, re.M)
    assert "digits-forget-0: 2 complete in " in done.stdout
    assert re.search(r"where the slots' time \(.*\) went: .*training \d", done.stdout)
    assert "knee" in done.stdout
    assert "  sfd-sweep export digits-forget-0 --knee --out digits-forget-0-knee\n" in done.stdout

    again = program(tmp_path, "resume", "digits-forget-0")
    assert again.returncode == 0, again.stderr
    assert "2 of the trials have ended earlier" in again.stdout
    assert "trial 0" not in again.stdout
    assert "digits-forget-0: 2 complete in " in again.stdout


def test_a_sweep_whose_trials_all_diverge_fails_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    divergent = "parameters.generator_lr={type: float, low: 1.0e30, high: 1.0e35}"
    done = program(tmp_path, "run", str(DIGITS), *settings(*SMALL, divergent, "search.max_failures=1"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("sfd-sweep: error: ")
    assert "Traceback" not in done.stderr
    assert re.search(r"trial 0 is failed: ", done.stdout)


PLAN = {
    "teacher": "builtin:digits",
    "": "160,401 parameters",
    "forgets": "0",
    "retains": "1, 2, 3, 4, 5, 6, 7, 8, 9",
    "in all": "up to 320 updates, 32 evaluations, 96,000 samples",
    "samples": "2,000 retained and 1,000 forgotten; the front once more on 10,000",
    "memory": "6.4 MB a worker",  # ten float32 copies of the parameters
    "disk": "0.6 MB a generator and 4.5 MB a training state, beside grids of samples",
    "running": "slots × 10.3 MB, the last checkpoint of each and the next while it is written",
    "kept": "0.6 MB for each of the members of the front, at most 10.3 MB; as much in MLflow for",
    "generator_lr": "from 2e-05 to 0.0003",
    "batch_size": "64",
    "unlearning_accuracy": "maximize, reference 0",
    "override_distance": "at most 100",
    "storage": "runs/digits-forget-0",
    "tracking": "https://mlflow.example/x",
}


def test_a_dry_run_prints_the_plan_without_passwords_and_makes_nothing(command, folder):
    said = command("run", str(DIGITS), "--dry-run", *settings("tracking.uri=https://me:secret@mlflow.example/x"))
    assert (said.code, said.err) == (0, "")
    lines = [re.split("  +", line.strip()) for line in said.out.replace("\n  ", "\n ?  ").splitlines()]
    told = {line[0].strip("? "): line[1] for line in lines if len(line) > 1}
    for name, value in PLAN.items():
        assert value in said.out if name in ("", "running", "kept") else told[name].startswith(value), name
    assert "secret" not in said.out
    assert not list(folder.iterdir())


def test_a_dry_run_shows_a_bucket_and_refuses_one_with_credentials_without_showing_them(command, folder):
    said = command("run", str(DIGITS), "--dry-run", *settings("storage=s3://bucket/a?endpoint_override=minio:9000"))
    assert (said.code, said.err) == (0, "")
    assert re.search(r"^storage +s3://bucket/a/digits-forget-0\?endpoint_override=minio:9000 *$", said.out, re.M)
    said = command("run", str(DIGITS), "--dry-run", *settings("storage=s3://me:geheim@bucket/a"))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "the s3:// URI holds credentials" in said.err
    assert "geheim" not in said.err


@pytest.mark.parametrize("override", ["[2, 3]", "2", "random", "classifier", "[2, drei]", "[2, 3, 4]", "[2, 1]"])
def test_a_dry_run_knows_several_forgotten_classes_and_what_replaces_them(command, folder, override):
    forgotten = settings("task.forget=[0, 1]", f"parameters.override={override}", "search.first=[]")
    said = command("run", str(DIGITS), "--dry-run", *forgotten)
    mistake = {
        "[2, drei]": "no class 'drei'",
        "[2, 3, 4]": "as many classes as are forgotten (2)",
        "[2, 1]": "forgotten",
    }
    if override in mistake:
        assert (said.code, said.out) == (2, "")
        assert said.err.count("\n") == 1
        assert mistake[override] in said.err
    else:
        assert (said.code, said.err) == (0, "")
        assert re.search(r"^forgets +0, 1 *$", said.out, re.M)
        assert re.search(r"^retains +2, 3, 4, 5, 6, 7, 8, 9 *$", said.out, re.M)
        assert f"override                            {override.replace('[', '(').replace(']', ')')} " in said.out


@pytest.mark.parametrize("place", ["storage", "record", "runs"])
def test_a_sweep_is_found_by_its_name(place, recorded, folder, monkeypatch):
    from recorded_sweep import NAME

    from sfd_sweep.tracking.location import locate

    if place == "storage":
        assert locate("x", storage="elsewhere") == "elsewhere/x"
        assert locate("x", storage="s3://bucket/a?region=b") == "s3://bucket/a/x?region=b"
    elif place == "record":
        assert locate(NAME, uri=f"sqlite:///{recorded}/mlflow.db") == (recorded / "runs" / NAME).as_uri()
    else:
        (folder / "runs" / "x").mkdir(parents=True)
        (folder / "runs" / "x" / "config.yaml").touch()
        assert locate("x") == "runs/x"
