"""From photographs to an exported generator that has forgotten a class of them, by the program's own commands."""

import json
import os
from pathlib import Path

import pytest
from photographs import photographs
from PIL import Image
from test_running import program, settings

SPACE = Path(__file__).parents[2] / "search_spaces" / "cifar10-cpu.yaml"
CIFAR10 = "SFD_SWEEP_CIFAR10"
"""The environment's name for a folder of CIFAR-10; without it, patches of two photographs stand in."""

SHORT = settings(
    *("budget.trials=2", "trial.steps=6", "trial.evaluate_every=3", "resources.slots=2"),
    *("evaluation.samples=300", "evaluation.forget_samples=60", "evaluation.final_samples=400"),
)
CLASSES = settings(
    *("task.forget=[flower]", "search.first=[]", "parameters.override={type: categorical, choices: [china, random]}")
)


def run(folder: Path, *arguments: str) -> str:
    done = program(folder, *arguments)
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
    judge = run(
        *(tmp_path, "train-classifier", "data/cifar10", "--preset", "cifar-resnet-small", "--epochs", "2", *names),
        *("--out", "models/cifar10-small-judge"),
    )
    assert "of the held-out images are called by their class" in judge
    teacher = run(
        *(tmp_path, "pretrain", "data/cifar10", "--preset", "small-cifar10", "--steps", "60", *names),
        *("--out", "models/cifar10-small", "--grid", "teacher.png"),
    )
    assert teacher.startswith("models/cifar10-small: a teacher of ")
    plan = run(tmp_path, "run", str(SPACE), *SHORT, *classes, "--dry-run")
    assert "3×32×32 pixels" in plan
    swept = run(tmp_path, "run", str(SPACE), *SHORT, *classes)
    assert "cifar10-cpu-forget-airplane: 2 complete in " in swept
    assert "judging the front on 400 samples" in swept
    run(tmp_path, "export", "cifar10-cpu-forget-airplane", "--best-score", "--out", "generator")
    record = json.loads((tmp_path / "generator" / "model_index.json").read_text())
    assert forgotten in record["id2label"].values()
    run(tmp_path, "sample", "generator", "--count", "20", "--out", "grid.png")
    for picture in ("teacher.png", "grid.png"):
        with Image.open(tmp_path / picture) as image:
            assert image.mode == "RGB"
            assert min(image.size) > 64
