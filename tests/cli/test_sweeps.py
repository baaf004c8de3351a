"""Commands that run sweeps, and their plans."""

import re
from pathlib import Path

import pytest
from recorded_sweep import NAME, SEARCH_SPACE

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
SMALL = [
    *("search.first=[]", "budget.trials=2", "trial.steps=2", "trial.evaluate_every=1", "resources.slots=1"),
    *("evaluation.samples=90", "evaluation.forget_samples=20", "evaluation.final_samples=null"),
    *("constraints=[]", "selection={}", "parameters.batch_size=8", "parameters.forget_batch_size=4"),
]


TWO_OBJECTIVES = [
    "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}, {metric: unlearning_accuracy, goal: "
    "maximize, reference_point: 0}]",
    "constraints=[]",
    "selection.max={}",
]
"""Without the excess over a generator that never knew the 0."""


def settings(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture
def small_sweep(cluster, folder) -> list[str]:
    """The arguments of a run of two tiny trials on the shared cluster."""
    return ["run", str(DIGITS), *settings(*SMALL, f"storage={folder / 'runs'}")]


def test_a_sweep_prints_its_events_and_the_next_commands_and_is_not_run_twice(command, small_sweep):
    done = command(*small_sweep)
    assert done.code == 0, done.err
    assert re.search(r"^ +[\d.]+ s  trial 1 at step 2: fd_classifier [\d.]+, unlearning_accuracy ", done.out, re.M)
    assert "digits-forget-0: 2 complete in " in done.out
    assert re.search(r"^ +[\d.]+ s  swap, which forgets nothing, on .*unlearning_accuracy 1, excess_", done.out, re.M)
    assert re.search(
        r"^swap, which forgets nothing: .*unlearning_accuracy 1, excess_relearning_rate .* on 90 retained",
        done.out,
        re.M,
    )
    assert re.search(r"slot time \(.*\): .*training \d", done.out)
    assert "knee" in done.out
    assert "  sfd-sweep export digits-forget-0 --knee --out digits-forget-0-knee\n" in done.out

    again = command("resume", "digits-forget-0")
    assert again.code == 0, again.err
    assert "2 trials have ended earlier" in again.out
    assert "trial 0" not in again.out
    assert "digits-forget-0: 2 complete in " in again.out


@pytest.mark.slow
def test_a_sweep_whose_trials_all_diverge_fails_in_one_line(command, small_sweep):
    divergent = "parameters.generator_lr={type: float, low: 1.0e30, high: 1.0e35}"
    done = command(*small_sweep, *settings(divergent, "search.max_failures=1"))
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("sfd-sweep: error: ")
    assert "Traceback" not in done.err
    assert re.search(r"trial 0 is failed: ", done.out)


PLAN = {
    "teacher": "builtin:digits",
    "": "160,401 parameters",
    "forgets": "0",
    "retains": "1, 2, 3, 4, 5, 6, 7, 8, 9",
    "in all": "up to 320 updates, 32 evaluations, 96,000 samples",
    "samples": "2,000 retained and 1,000 forgotten; the front on 10,000 in the final evaluation",
    "judge": "svm",
    "never knew": "builtin:digits-without-0; attacked once",
    "memory": "10.3 MB a worker",  # float32: eleven copies of the parameters, four for relearning, and the control
    "disk": "0.6 MB a generator and 4.5 MB a training state, beside sample grids",
    "running": "slots × 10.3 MB: the last checkpoint of each, and the next one",
    "kept": "0.6 MB for each of the members of the front, at most 10.3 MB; as much in MLflow for the front",
    "generator_lr": "from 2e-05 to 0.0003",
    "batch_size": "64",
    "unlearning_accuracy": "maximize, reference point 0",
    "excess_relearning_rate": "minimize, reference point 1",
    "override_distance": "at most 100",
    "excess_inversion_rate": "at most 0.1",
    "relearning_rate": "3 updates of a copy of the weights: 171 images through it, 75 of them back",
    "storage": "runs/digits-forget-0",
    "tracking": "https://mlflow.example/x",
}


def test_a_dry_run_prints_the_plan_without_passwords_and_makes_nothing(command, folder):
    said = command("run", str(DIGITS), "--dry-run", *settings("tracking.uri=https://me:secret@mlflow.example/x"))
    assert (said.code, said.err) == (0, "")
    lines = [re.split("  +", line.strip()) for line in said.out.replace("\n  ", "\n ?  ").splitlines()]
    told: dict[str, str] = {}
    for name, value, *_ in (line for line in lines if len(line) > 1):
        told.setdefault(name.strip("? "), value)  # an objective may count as forgotten, further down
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
    forgotten = settings(*TWO_OBJECTIVES, "task.forget=[0, 1]", f"parameters.override={override}", "search.first=[]")
    forgotten += settings("task.override_classifier=models/second")
    said = command("run", str(DIGITS), "--dry-run", *forgotten)
    mistake = {
        "[2, drei]": "no class 'drei'",
        "[2, 3, 4]": "one class for each forgotten class (2)",
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
    from sfd_sweep.tracking.reader import locate

    if place == "storage":
        assert locate("x", storage="elsewhere") == "elsewhere/x"
        assert locate("x", storage="s3://bucket/a?region=b") == "s3://bucket/a/x?region=b"
    elif place == "record":
        assert locate(NAME, uri=f"sqlite:///{recorded}/mlflow.db") == (recorded / "runs" / NAME).as_uri()
    else:
        (folder / "runs" / "x").mkdir(parents=True)
        (folder / "runs" / "x" / "config.yaml").touch()
        assert locate("x") == "runs/x"


def plan_of(command, tmp_path, *overrides: str) -> str:
    path = tmp_path / "next.yaml"
    path.write_text(SEARCH_SPACE.replace(NAME, "next"))
    options = [word for override in overrides for word in ("--set", override)]
    said = command("run", str(path), "--dry-run", *options)
    assert (said.code, said.err) == (0, "")
    return said.out


def test_the_plan_counts_what_is_taken_over_and_what_is_left_out(command, recorded, tmp_path):
    narrower = "parameters.generator_lr={type: float, low: 1.0e-5, high: 1.0e-4, log: true}"
    plan = plan_of(command, tmp_path, f"search.warm_start=[{NAME}]", narrower)
    lines = [line.strip() for line in plan.splitlines()]
    assert f"taken over from earlier sweeps: 1 of {NAME}" in lines
    assert "left out: 3 with a generator_lr that this sweep does not try, 1 not complete" in lines


def test_without_a_number_of_trials_the_plan_promises_none(command, recorded, tmp_path):
    plan = plan_of(command, tmp_path, "budget={hours: 1.5}")
    assert "1.5 hours; running trials complete when it is used up" in plan
    assert "as many trials as the time allows" in plan


def test_the_plan_tells_conditions_and_who_draws_at_random(command, recorded, tmp_path):
    condition = "parameters.guidance_scale={type: float, low: 1, high: 2, when: {override: random}, otherwise: 1}"
    plan = plan_of(command, tmp_path, condition, "search.sampler=nsga2")
    assert "from 1 to 2 where override is random, otherwise 1" in plan
    assert "guidance_scale at random, as nsga2 models no conditions" in plan
    assert "at random" not in plan_of(command, tmp_path, condition)


def test_a_name_that_cannot_be_started_from_is_refused_before_anything_is_made(command, recorded, tmp_path):
    path = tmp_path / "next.yaml"
    path.write_text(SEARCH_SPACE.replace(NAME, "next"))
    said = command("run", str(path), "--set", f"search.warm_start=[{NAME}]", "--set", "trial.steps=40")
    assert (said.code, said.out) == (2, "")
    assert f"search.warm_start: {NAME}: its trial.steps is 20 and not 40" in said.err
    assert not (recorded / "runs" / "next").exists()


def test_a_new_file_for_a_teacher_passes_a_dry_run_and_replaces_none(command, folder):
    said = command("init", "builtin:digits", "--forget", "3")
    assert (said.code, said.err) == (0, "")
    assert (
        said.out == "digits-forget-3.yaml is written; `sfd-sweep run digits-forget-3.yaml --dry-run` prints its plan\n"
    )
    assert command("run", "digits-forget-3.yaml", "--dry-run").code == 0
    said = command("init", "builtin:digits", "--forget", "3")
    assert (said.code, said.err) == (2, "sfd-sweep: error: digits-forget-3.yaml exists; name another with --out\n")
    assert command("init", "builtin:digits-distilled").code == 2
    assert [path.name for path in folder.iterdir()] == ["digits-forget-3.yaml"]
