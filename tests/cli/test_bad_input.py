"""What a user can get wrong: one clear line, exit code 2, no traceback, and nothing made."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_sweep import NAME

from sfd_sweep.models.folder import find_model
from sfd_sweep.models.weights import WEIGHTS

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
SEARCHED = (
    *("generator_lr", "fake_score_lr_ratio", "forget_weight", "fake_score_forget_weight"),
    *("guidance_scale", "alpha", "override"),
)

BAD_KEYS = {
    "no assignment": (["budget.trials"], "KEY=VALUE"),
    "an assignment into a value": (["name.first=1"], "--set name.first=1"),
    "an unknown key, with the nearest": (["budget.trails=4"], "did you mean trials?"),
    "a wrong type": (["budget.trials=many"], "budget.trials: must be a valid integer"),
    "low above high": (["parameters.alpha={type: float, low: 2, high: 1}"], "parameters.alpha.low"),
    "a logarithm of zero": (["parameters.generator_lr.low=0"], "parameters.generator_lr.low"),
    "an unknown sampler, with the nearest": (["search.sampler=tpee"], "did you mean tpe?"),
    "an unknown distribution": (["parameters.alpha.type=floot"], "did you mean float?"),
    "an unknown class": (["task.forget=[eleven]"], "eleven"),
    "a class beyond the last": (["task.forget=[10]"], "there is no class 10"),
    "the forgotten as its own override": (["parameters.override=0"], "parameters.override"),
    "the forgotten as its own override, by another word": (["parameters.override='0'"], "parameters.override"),
    "a class that is forgotten twice": (["task.forget=[0, 0]"], "task.forget"),
    "every class forgotten": ([f"task.forget={list(range(10))}", "parameters.override=random"], "retain at least one"),
    "nothing to search": ([f"parameters.{name}=1" for name in SEARCHED], "nothing is searched"),
    "an objective that nothing measures": (["objectives.0.metric=fd_clasifier"], "did you mean fd_classifier?"),
    "a direction that is not the metric's": (["objectives.0.goal=maximize"], "objectives.0.goal"),
    "no trials": (["budget.trials=0"], "budget.trials: must be greater than 0"),
    "evaluation beyond the last step": (["trial.evaluate_every=100"], "trial.evaluate_every"),
    "a diffusion step beyond the schedule": (["parameters.t_max=1001"], "parameters.t_max"),
    "an unknown teacher": (["task.teacher=builtin:digit"], "builtin:digits"),
    "a teacher that is not there": (["task.teacher=./nowhere"], "nowhere"),
    "a generator for a teacher": (["task.teacher=builtin:digits-distilled"], "task.teacher"),
    "a kind of storage that is unknown": (["storage=ftp://host/runs"], "ftp"),
    "an empty name": (["name=''"], "name"),
    "a tracking server that is away": (["tracking.uri=http://127.0.0.1:9"], "http://127.0.0.1:9 is unreachable"),
}


@pytest.fixture
def refusal(command) -> Callable[..., str]:
    """The one line that a refused command says."""

    def refused(*arguments: str) -> str:
        said = command(*arguments)
        assert said.code == 2
        assert said.err.startswith("sfd-sweep: error: ")
        assert said.err.count("\n") == 1
        assert "Traceback" not in said.err + said.out
        return said.err

    return refused


def settings(overrides: list[str]) -> list[str]:
    return [word for override in ["search.first=[]", *overrides] for word in ("--set", override)]


@pytest.mark.parametrize(("overrides", "said"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_run_refuses(overrides, said, folder, refusal):
    assert said in refusal("run", str(DIGITS), *settings(overrides))
    assert not list(folder.iterdir())


def test_a_run_refuses_more_cpus_a_worker_than_the_cluster_has(cluster, folder, refusal):
    assert "resources.cpus_per_worker" in refusal("run", str(DIGITS), *settings(["resources.cpus_per_worker=512"]))
    assert not list(folder.iterdir())


FILES = {
    "missing": None,
    "empty": b"",
    "not YAML": b"name: [",
    "a list": b"- name",
    "lacking keys": b"name: x",
    "not UTF-8": b"name: \xff",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_run_refuses_a_file_that_is(content, folder, refusal):
    if content is not None:
        (folder / "space.yaml").write_bytes(content)
    before = list(folder.iterdir())
    assert "space.yaml" in refusal("run", "space.yaml")
    assert list(folder.iterdir()) == before


def cut_short(teacher: Path) -> None:
    weights = teacher / "unet" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])


def corrupt(teacher: Path) -> None:
    weights = teacher / "unet" / WEIGHTS
    weights.write_bytes(b"\xff" * weights.stat().st_size)


def without_weights(teacher: Path) -> None:
    (teacher / "unet" / WEIGHTS).unlink()


def without_null_label(teacher: Path) -> None:
    config = teacher / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_class_embeds": 10}))


def without_class_names(teacher: Path) -> None:
    index = teacher / "model_index.json"
    index.write_text(json.dumps({key: value for key, value in json.loads(index.read_text()).items() if key[0] != "i"}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_short, WEIGHTS),
        (corrupt, WEIGHTS),
        (without_weights, WEIGHTS),
        (without_null_label, "guidance needs a null label"),
        (without_class_names, "id2label"),
    ],
)
def test_a_run_refuses_a_teacher_that_is(damage, said, folder, refusal):
    shutil.copytree(find_model("builtin:digits"), folder / "teacher")
    damage(folder / "teacher")
    arguments = settings(["task.teacher=./teacher", "task.start=teacher"])
    assert said in refusal("run", str(DIGITS), *arguments)
    assert [path.name for path in folder.iterdir()] == ["teacher"]


def test_a_run_refuses_storage_below_a_file(folder, refusal):
    (folder / "file").touch()
    assert "storage" in refusal("run", str(DIGITS), "--set", "storage=file/runs")
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_run_refuses_the_name_of_a_sweep_that_is_there(recorded, refusal):
    before = sorted((recorded / "runs" / NAME).iterdir())
    said = refusal("run", str(DIGITS), "--set", f"name={NAME}")
    assert f"sfd-sweep resume {NAME}" in said
    assert [path for path in sorted((recorded / "runs" / NAME).iterdir()) if path.name != "driver.lock"] == before


def test_a_dry_run_refuses_what_a_run_refuses(folder, refusal):
    assert "eleven" in refusal("run", str(DIGITS), "--dry-run", "--set", "task.forget=[eleven]")


@pytest.mark.parametrize(
    "arguments",
    [["show", "x"], ["pareto", "x"], ["export", "x", "--knee", "--out", "o"], ["list"], ["resume", "x"], ["ui"]],
    ids=lambda arguments: arguments[0],
)
def test_without_a_record_this_is_refused(arguments, folder, refusal):
    assert "no tracking database" in refusal(*arguments)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "recordet"],
        ["pareto", "recordet"],
        ["export", "recordet", "--knee", "--out", "o"],
        ["resume", "recordet"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_unknown_sweep_is_refused_with_the_nearest_name(arguments, recorded, refusal):
    assert f"did you mean {NAME}?" in refusal(*arguments)
    assert not (recorded / "o").exists()


CHOICES = {
    "an unknown metric, with the nearest": (["--max", "fd_clasifier=1"], "did you mean fd_classifier?"),
    "a bound that is no number": (["--max", "fd_classifier=low"], "METRIC=NUMBER"),
    "a bound without a value": (["--min", "unlearning_accuracy"], "METRIC=NUMBER"),
    "a bound that nothing keeps": (["--max", "fd_classifier=0.1"], "the nearest is trial 0"),
    "two ways of choosing": (["--knee", "--best-score"], "exactly one"),
    "a trial that is not there": (["--trial", "77"], "no trial 77"),
    "a word for a trial": (["--trial", "x"], "--trial"),
}


@pytest.mark.parametrize("name", ["show", "pareto", "export"])
@pytest.mark.parametrize(("policy", "said"), CHOICES.values(), ids=CHOICES)
def test_a_choice_is_refused_by(policy, said, name, recorded, refusal):
    target = ["--out", "o"] if name == "export" else []
    assert said in refusal(name, NAME, *policy, *target)
    assert not (recorded / "o").exists()


def test_an_export_without_a_choice_is_refused(recorded, refusal):
    assert "--knee" in refusal("export", NAME, "--out", "o")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xml"], "--format"),
        (["--format", "parquet"], "--out"),
        (["--out", "front.txt"], "--format"),
        (["--format", "csv", "--out", "nowhere/front.csv"], "no folder nowhere"),
        (["--picture", "."], "folder"),
    ],
)
def test_a_front_is_not_written(arguments, said, recorded, refusal):
    assert said in refusal("pareto", NAME, *arguments)


def test_a_tracking_server_that_is_away_is_named_without_its_password(folder, refusal):
    said = refusal("list", "--uri", "http://me:secret@127.0.0.1:9")
    assert "http://127.0.0.1:9" in said
    assert "secret" not in said


def test_a_sweep_that_is_not_in_the_given_storage_is_not_resumed(folder, refusal):
    assert "no sweep is there" in refusal("resume", "x", "--storage", "elsewhere")
    assert not list(folder.iterdir())


PRETRAIN = ["pretrain", "builtin:digits", "--out", "o"]
DISTILL = ["distill", "builtin:digits", "--out", "o"]
MODELS = {
    "sampling a folder that is not there": (["sample", "nowhere", "--out", "grid.png"], "nowhere"),
    "sampling a teacher": (["sample", "builtin:digits", "--out", "grid.png"], "no one-step generator"),
    "sampling an unknown class": (["sample", "builtin:digits-distilled", "--label", "x", "--out", "g.png"], "'x'"),
    "a picture in no folder": (["sample", "builtin:digits-distilled", "--count", "1", "--out", "a/g.png"], "no folder"),
    "no images": (["sample", "builtin:digits-distilled", "--count", "0", "--out", "g.png"], "--count"),
    "evaluating a folder that is not there": (["evaluate", "nowhere"], "nowhere"),
    "pretraining on unknown images": (["pretrain", "builtin:cats", "--out", "o"], "builtin:cats"),
    "no steps": (["pretrain", "builtin:digits", "--out", "o", "--steps", "0"], "--steps"),
    "no learning": ([*PRETRAIN, "--set", "lr=0"], "--set lr=0: lr: must be greater than 0, not 0"),
    "an unknown preset": ([*PRETRAIN, "--preset", "digit"], "did you mean digits?"),
    "an unknown precision": ([*PRETRAIN, "--set", "precision=half"], "precision: must be float32, tf32 or bfloat16"),
    "an unknown field": (
        [*PRETRAIN, "--set", "chanels=[8]"],
        "--set chanels=[8]: unknown field 'chanels'; did you mean channels?",
    ),
    "a field of another kind": ([*PRETRAIN, "--set", "channels=8"], "--set channels"),
    "a field without value": ([*PRETRAIN, "--set", "channels"], "KEY=VALUE"),
    "fields that do not go together": ([*PRETRAIN, "--set", "norm_groups=5"], "norm_groups 5 does not divide"),
    "a network for larger images": (
        [*PRETRAIN, "--preset", "ddpm-cifar10", "--set", "image_size=null"],
        "feature maps of 8, 4, 2, 1",
    ),
    "images that are too large for the classifier": (
        [*PRETRAIN, "--set", "image_size=32"],
        "takes images of 8×8 pixels",
    ),
    "a network that halves too often": ([*PRETRAIN, "--set", "channels=[8,8,8,8,8]"], "halves its images 4 times"),
    "a cluster for nobody": ([*PRETRAIN, "--address", "auto"], "--workers"),
    "no GPU": ([*PRETRAIN, "--gpus-per-worker", "1"], "--gpus-per-worker"),
    "a picture of samples in no folder": ([*PRETRAIN, "--grid", "a/g.png"], "no folder"),
    "a classifier that is not there": ([*PRETRAIN, "--classifier", "nowhere"], "nowhere"),
    "a pretraining that diverges": (
        [*PRETRAIN, "--set", "lr=1e30", "--set", "lr_schedule=constant", "--steps", "9"],
        "diverged at step 9: the loss is nan; try a lower learning rate (--set lr=…)",
    ),
    "distilling a generator": (["distill", "builtin:digits-distilled", "--out", "o"], "one-step generator already"),
    "a setting out of its range": (
        [*DISTILL, "--set", "ema_decay=1"],
        "settings.ema_decay: must be less than 1, not 1",
    ),
    "an unknown setting": ([*DISTILL, "--set", "alhpa=1"], "--set alhpa=1: unknown field 'alhpa'; did you mean alpha?"),
    "a step beyond the schedule": ([*DISTILL, "--set", "t_init=1000"], "t_init 1000"),
    "a classifier of unknown images": (["train-classifier", "builtin:cats", "--out", "o"], "builtin:cats"),
}


@pytest.mark.parametrize(("arguments", "said"), MODELS.values(), ids=MODELS)
def test_with_models_this_is_refused(arguments, said, folder, refusal):
    assert said in refusal(*arguments)
    assert not list(folder.iterdir())


MAKERS = [["pretrain", "builtin:digits"], ["distill", "builtin:digits"], ["train-classifier", "builtin:digits"]]


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker[0])
def test_a_model_is_not_written_over_what_is_there(maker, folder, refusal):
    (folder / "out").mkdir()
    (folder / "out" / "diary.txt").touch()
    (folder / "file").touch()
    assert "--force" in refusal(*maker, "--out", "out")
    assert "holds no model" in refusal(*maker, "--out", "out", "--force")
    assert "not a writable folder" in refusal(*maker, "--out", "file/out")
    assert sorted(path.name for path in folder.rglob("*")) == ["diary.txt", "file", "out"]


@pytest.mark.parametrize("arguments", [["runn"], ["list", "--urri", "x"], ["show"], ["ui", "--port", "0"]])
def test_unknown_and_missing_words_are_refused(arguments, refusal):
    refusal(*arguments)


def test_the_program_itself_refuses_in_one_line(tmp_path):
    arguments = ["pretrain", "builtin:digits", "--out", "o", "--workers", "1", "--address", "127.0.0.1:1"]
    program = [sys.executable, "-m", "sfd_sweep", *arguments]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sfd-sweep: error: no Ray cluster to join at")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
