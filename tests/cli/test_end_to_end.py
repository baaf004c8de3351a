"""From images to an exported generator that has forgotten, by the program's own commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from photographs import photographs
from PIL import Image

SPACES = Path(__file__).parents[2] / "search_spaces"
CIFAR10 = "SFD_SWEEP_CIFAR10"
"""The environment's name for a folder of CIFAR-10; without it, patches of two photographs stand in."""


def settings(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


SHORT = settings(
    *("selection={}", "budget.trials=2", "trial.steps=6", "trial.evaluate_every=3", "resources.slots=2"),
    *("evaluation.samples=300", "evaluation.forget_samples=60", "evaluation.final_samples=400"),
)
CLASSES = settings(
    *("task.forget=[flower]", "search.first=[]", "parameters.override={type: categorical, choices: [china, random]}")
)


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "sfd_sweep", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_class_of_photographs_is_forgotten_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if real := os.environ.get(CIFAR10):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "cifar10").symlink_to(Path(real).absolute())
        names, classes, forgotten = ("--class-names", "cifar10"), [], "airplane"
    else:
        photographs(tmp_path / "data" / "cifar10", count=640)
        names, classes, forgotten = (), CLASSES, "flower"
    trained = run(
        *(tmp_path, "train-classifier", "data/cifar10", "--preset", "cifar-resnet-small", "--epochs", "2", *names),
        *("--out", "models/cifar10-small-classifier"),
    )
    assert "on the held-out images" in trained
    teacher = run(
        *(tmp_path, "pretrain", "data/cifar10", "--preset", "small-cifar10", "--steps", "60", *names),
        *("--out", "models/cifar10-small", "--grid", "teacher.png"),
    )
    assert teacher.startswith("models/cifar10-small: teacher of ")
    plan = run(tmp_path, "run", str(SPACES / "cifar10-cpu.yaml"), *SHORT, *classes, "--dry-run")
    assert "3×32×32 pixels" in plan
    swept = run(tmp_path, "run", str(SPACES / "cifar10-cpu.yaml"), *SHORT, *classes)
    assert "cifar10-cpu-forget-airplane: 2 complete in " in swept
    assert "final evaluation of the front on 400 samples" in swept
    run(tmp_path, "export", "cifar10-cpu-forget-airplane", "--best-score", "--out", "generator")
    record = json.loads((tmp_path / "generator" / "model_index.json").read_text())
    assert forgotten in record["id2label"].values()
    run(tmp_path, "sample", "generator", "--count", "20", "--out", "grid.png")
    for picture in ("teacher.png", "grid.png"):
        with Image.open(tmp_path / picture) as image:
            assert image.mode == "RGB"
            assert min(image.size) > 64


FLOW = settings(
    *("name=flow", "task.teacher=flow", "task.start=flow-distilled", "audit.control=null", "selection={}"),
    *("parameters.t_min=120", "parameters.t_init=713", "parameters.t_max=928", "budget.trials=4"),
    "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}, "
    "{metric: unlearning_accuracy, goal: maximize, reference_point: 0}]",
    "constraints=[{metric: override_distance, max: 100}]",
)


@pytest.mark.slow
def test_a_flow_is_pretrained_distilled_and_made_to_forget(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    teacher = run(tmp_path, "pretrain", "builtin:digits", "--preset", "digits-flow", "--out", "flow")
    start = run(tmp_path, "distill", "flow", "--out", "flow-distilled")
    for said in (teacher, start):
        assert float(re.search(r"fd_classifier (\S+)", said)[1]) < 1.5
    assert "20 steps of Euler" in teacher
    digits = str(SPACES / "digits.yaml")
    assert "1000 steps of flow matching" in run(tmp_path, "run", digits, *FLOW, "--dry-run")
    assert "flow: 4 complete in " in run(tmp_path, "run", digits, *FLOW)
    run(tmp_path, "export", "flow", "--min", "unlearning_accuracy=0.9", "--out", "zero-free", "--audit", "none")
    figures = json.loads(run(tmp_path, "evaluate", "zero-free", "--format", "json"))["metrics"]
    assert figures["unlearning_accuracy"] > 0.9
    assert figures["retain_accuracy"] > 0.95
    assert figures["fd_classifier"] < 3


@pytest.mark.slow
def test_a_concept_is_forgotten_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run(tmp_path, "pretrain", "builtin:digits-in-words", "--preset", "digits-text", "--out", "models/digits-text")
    prompts = str(SPACES / "prompts" / "digits.txt")
    out = "models/digits-text-distilled"
    run(tmp_path, "distill", "models/digits-text", "--prompts", prompts, "--out", out)
    swept = run(tmp_path, "run", str(SPACES / "digits-text.yaml"), *settings("budget.trials=3", "selection={}"))
    assert "digits-text-forget-zero: 3 complete in " in swept
    run(tmp_path, "export", "digits-text-forget-zero", "--min", "unlearning_accuracy=0.9", "--out", "zero-free")
    figures = json.loads(run(tmp_path, "evaluate", "zero-free", "--teacher", "models/digits-text", "--format", "json"))[
        "metrics"
    ]
    assert min(figures["unlearning_accuracy"], figures["held_out_unlearning_accuracy"]) > 0.85
    assert figures["retain_accuracy"] > 0.9
    assert "text-to-image generator that has forgotten **zero**" in (tmp_path / "zero-free" / "README.md").read_text()
    said = run(tmp_path, "sample", "zero-free", "--prompt", "a sketch of zero", "--count", "4", "--out", "grid.png")
    assert re.match(r"4 images of a sketch of zero in ", said)
