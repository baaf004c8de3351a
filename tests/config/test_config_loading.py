"""Search-space files: loading, dumping, and one line for each error with its place, key, and remedy."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sfd_sweep.config import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    SearchSpace,
    Settings,
    dump_search_space,
    json_schema,
    load_search_space,
    parse_search_space,
)
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import METRICS, Goal, Need

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"

TEXT = """\
name: small
task:
  teacher: builtin:digits
  forget: [0]
trial:
  steps: 60
  evaluate_every: 20
parameters:
  generator_lr: {type: float, low: 3e-5, high: 6e-4, log: true}
  override:
    type: categorical
    choices: [1, random]
  alpha: 1.2
search:
  first:
  - generator_lr: 2e-4
budget:
  trials: 16
objectives:
- metric: fd_classifier
  goal: minimize
  reference_point: 10
- metric: unlearning_accuracy
  goal: maximize
  reference_point: 0
constraints:
- metric: override_distance
  max: 40
"""


def replaced(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def message_of(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_search_space(text, "x.yaml", overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_a_file_becomes_a_typed_search_space() -> None:
    space = parse_search_space(TEXT, "x.yaml")
    assert space.task.forget == (0,)
    assert space.parameters.searched() == {
        "generator_lr": FloatDistribution(low=3e-5, high=6e-4, log=True),
        "override": CategoricalDistribution(choices=(1, "random")),
    }
    assert space.search.first == ({"generator_lr": 2e-4},)
    assert [objective.goal for objective in space.objectives] == [Goal.MINIMIZE, Goal.MAXIMIZE]
    assert space.parameters.fixed()["beta2"] == Settings().beta2


@pytest.mark.parametrize("written", ["3e-4", "3.0e-4", "3E-4", "0.0003"])
def test_a_float_may_be_written_with_or_without_a_point(written: str) -> None:
    space = parse_search_space(TEXT, "x.yaml", [f"parameters.generator_lr.low={written}", "search.first=[]"])
    lr = space.parameters.searched()["generator_lr"]
    assert isinstance(lr, FloatDistribution)
    assert lr.low == 3e-4


def test_the_digits_example_is_a_valid_search_space() -> None:
    space = load_search_space(DIGITS)
    assert set(space.parameters.searched()) == {
        "forget_weight",
        "fake_score_forget_weight",
        "guidance_scale",
        "generator_lr",
        "fake_score_lr_ratio",
        "alpha",
        "override",
    }
    assert set(space.search.first[0]) == set(space.parameters.searched())
    assert space.trial.milestones() == (10, 20)


IMAGES = {
    "alpha": 1.2, "t_min": 38, "t_init": 440, "t_max": 712, "retain_weight": 1, "forget_weight": 0.01,
    "fake_score_forget_weight": 0.01, "generator_lr": 1e-5, "beta1": 0, "beta2": 0.999, "adam_epsilon": 1e-8,
    "gradient_clip": 1, "ema_decay": 0.9999, "ema_warmup": False, "network_dropout": True, "shared_conditions": True,
    "condition_dropout": 0, "guidance_scale": 1, "fake_score_guidance_scale": 1, "loss": "score_identity",
}  # fmt: skip
PROMPTS = {
    "alpha": 1, "t_min": 20, "t_init": 625, "t_max": 980, "retain_weight": 1, "forget_weight": 1,
    "fake_score_forget_weight": 1, "generator_lr": 1e-6, "fake_score_lr_ratio": 3, "beta1": 0, "beta2": 0.999,
    "adam_epsilon": 1e-6, "ema_decay": 0, "network_dropout": False, "shared_conditions": False, "batch_size": 8,
    "condition_dropout": 0.1, "drop_before_generating": True, "guidance_scale": 4.5, "fake_score_guidance_scale": 4.5,
    "fake_score_training_guidance_scale": 4.5, "loss": "score_identity",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        ("cifar10", 50_000, {**IMAGES, "fake_score_lr_ratio": 1, "batch_size": 128, "override": "automobile"}),
        ("stl10", 50_000, {**IMAGES, "fake_score_lr_ratio": 3, "batch_size": 64, "override": "bird"}),
        ("sd15-celebrity", 12_500, {**PROMPTS, "override": "a middle aged man"}),
        ("sd15-nudity", 12_500, {**PROMPTS, "override": "", "fake_score_negative_prompt": True}),
    ],
)
def test_the_first_trial_of_a_large_example_is_that_of_the_release(
    name: str, steps: int, expected: dict[str, Any]
) -> None:
    """The release's configurations: DDPM/configs/*_sfd.yml, SD/run_sfd.sh and its examples."""
    space = load_search_space(DIGITS.with_name(f"{name}.yaml"))
    found = space.parameters.settings(dict(space.search.first[0])).model_dump()
    assert {key: found[key] for key in expected} == expected
    assert found["forget_batch_size"] == found["batch_size"]
    assert space.trial.steps == steps


def test_the_first_point_of_the_digits_example_makes_valid_settings() -> None:
    space = load_search_space(DIGITS)
    settings = space.parameters.settings(space.search.first[0])
    assert (settings.override, settings.fake_score_loss, settings.batch_size) == (1, "velocity", 64)


def test_an_override_replaces_a_value() -> None:
    overrides = [
        "budget.trials=4",
        "objectives.0.reference_point=5",
        "parameters.override=2",
        "tracking.uri=sqlite:///a=b.db",
    ]
    space = parse_search_space(TEXT, "x.yaml", overrides)
    assert space.budget.trials == 4
    assert space.objectives[0].reference_point == 5
    assert space.parameters.fixed()["override"] == 2
    assert space.tracking.uri == "sqlite:///a=b.db"


def test_overrides_apply_in_order() -> None:
    space = parse_search_space(TEXT, "x.yaml", ["budget.trials=4", "budget.trials=5"])
    assert space.budget.trials == 5


def test_an_override_may_change_a_distribution_or_a_part_of_it() -> None:
    overrides = ["parameters.alpha={type: int, low: 0, high: 3}", "parameters.alpha.high=2"]
    assert parse_search_space(TEXT, "x.yaml", overrides).parameters.searched()["alpha"] == IntDistribution(
        low=0, high=2
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # keys
        ("budget.trails=4", "budget.trails: unknown key; did you mean trials?"),
        ("serch.sampler=gp", "serch: unknown key; did you mean search?"),
        ("search.trials=4", "search.trials: is budget.trials now; move it there"),
        ("budget={}", "budget: set trials, hours, or gpu_hours, so that the sweep ends"),
        ("budget.hours=0", "budget.hours: must be greater than 0, not 0"),
        ("budget.gpu_hours=8", "budget.gpu_hours: resources.gpus_per_worker is 0, so no GPU is used; set hours"),
        ("parameters.generater_lr=1", "parameters.generater_lr: unknown key; did you mean generator_lr?"),
        (
            "task.override=1",
            "task.override: unknown key; use kind, teacher, start, forget, prompts or override_classifier",
        ),
        ("objectives.0.weigth=2", "objectives.0.weigth: unknown key; did you mean weight?"),
        # values of a fixed kind
        ("budget.trials=0", "budget.trials: must be greater than 0, not 0"),
        ("budget.trials='16'", 'budget.trials: must be a valid integer, not "16"'),
        ("budget.trials=1.5", "budget.trials: must be a valid integer, not 1.5"),
        ("budget.trials=true", "budget.trials: must be a valid integer, not true"),
        ("search.seed=4294967296", "search.seed: must be less than 4294967296, not 4294967296"),
        ("search.sampler=tpee", "search.sampler: must be tpe, mfgp, nsga2, nsga3, gp, qmc or random, not \"tpee\"; "
         "did you mean tpe?"),
        ("search.scheduler=asha", 'search.scheduler: must be a mapping, not "asha"'),
        ("search.scheduler={}", "search.scheduler.type: is missing; use none, asha or mo_asha"),
        ("search.scheduler={type: ash}", 'search.scheduler.type: must be none, asha or mo_asha, not "ash"; '
         "did you mean asha?"),
        ("search.scheduler={type: asha, reduction: 2}", "search.scheduler.reduction: unknown key; "
         "did you mean reduction_factor?"),
        ("task=null", "task: must be a mapping, not null"),
        ("task.forget=0", "task.forget: must be a list, not 0"),
        ("task.forget=[]", "task.forget: must have at least 1 entry, not []"),
        ("task.forget=[0, true]", "task.forget.1: must be a valid integer or a valid string, not true"),
        ("tracking.uri=3", "tracking.uri: must be a valid string, not 3"),
        ("name=a b", "name: must consist of letters, digits, dots, dashes, and underscores, and begin with a letter "
         'or digit, not "a b"'),
        ("name=references", "name: references is a folder of results that sweeps share; choose "
         "another name"),
        ("name=../up", "name: must consist of letters, digits, dots, dashes, and underscores, and begin with a "
         'letter or digit, not "../up"'),
        ("resources.slots=0", "resources.slots: must be auto or greater than 0, not 0"),
        ("resources.slots=al", 'resources.slots: must be auto or a valid integer, not "al"'),
        ("resources.precision=float8", "resources.precision: must be float32, tf32, bfloat16 or float16, not "
         '"float8"; did you mean float32?'),
        ("resources.precision=float16", "resources.precision: float16 needs a GPU: set gpus_per_worker, or use "
         "float32 or bfloat16"),
        ("resources.precision=tf32", "resources.precision: tf32 needs a GPU: set gpus_per_worker, or use float32 or "
         "bfloat16"),
        ("resources.micro_batch_size=0", "resources.micro_batch_size: must be greater than 0, not 0"),
        ("resources.micro_batch_size=8.5", "resources.micro_batch_size: must be a valid integer, not 8.5"),
        ("resources.activation_checkpointing=1", "resources.activation_checkpointing: must be a valid boolean, not 1"),
        ("resources.microbatch_size=8", "resources.microbatch_size: unknown key; did you mean micro_batch_size?"),
        ("trial.evaluate_every=80", "trial.evaluate_every: must not be above steps (60), but is 80"),
        # parameters and distributions
        ("parameters.alpha=.inf", "parameters.alpha: must be a finite number, not Infinity"),
        ("parameters.loss=dif_instruct", "parameters.loss: must be score_identity or diff_instruct, "
         'not "dif_instruct"; did you mean diff_instruct?'),
        ("parameters.alpha={low: 1, high: 2}", "parameters.alpha.type: is missing; use float, int or categorical"),
        ("parameters.alpha={type: flaot, low: 1, high: 2}", "parameters.alpha.type: must be float, int or categorical, "
         'not "flaot"; did you mean float?'),
        ("parameters.alpha={type: float, low: 2, high: 1}", "parameters.alpha.low: must not be above "
         "high (1), but is 2"),
        ("parameters.alpha={type: float, low: 0, high: 1, log: true}", "parameters.alpha.low: must be above 0 with "
         "log: true, not 0; raise it, or remove log"),
        ("parameters.alpha={type: int, low: 1, high: 9, log: true, step: 2}", "parameters.alpha.step: log and step "
         "exclude each other; remove one"),
        ("parameters.alpha={type: float, low: a, high: 1}", 'parameters.alpha.low: must be a valid number, not "a"'),
        ("parameters.alpha={type: float, low: 1, hihg: 2}", "parameters.alpha.hihg: unknown key; did you mean high? "
         "(and 1 more)"),
        ("parameters.alpha={type: categorical, choices: [1, 2, 1]}", "parameters.alpha.choices.2: 1 is a duplicate; "
         "remove one"),
        ("parameters.generator_lr.log=2", "parameters.generator_lr.log: must be a valid boolean, not 2"),
        ("parameters.guidance_scale={type: float, low: -1, high: 2}", "parameters.guidance_scale.low: must be "
         "greater than or equal to 0, not -1.0"),
        ("parameters.beta1={type: float, low: 0, high: 1}", "parameters.beta1.high: must be less than 1, not 1.0"),
        ("parameters.batch_size={type: float, low: 16, high: 64}", "parameters.batch_size.type: must be int or "
         "categorical, as batch_size is an integer"),
        ("parameters.beta2={type: categorical, choices: [0.9, high]}", "parameters.beta2.choices.1: must be a valid "
         'number, not "high"'),
        ("parameters.loss={type: categorical, choices: [score_identity, sid]}", "parameters.loss.choices.1: must be "
         'score_identity or diff_instruct, not "sid"'),
        ("parameters.t_min={type: int, low: 0, high: 712}", "parameters.t_min: t_min (up to 712) must always be below "
         "t_max (from 712)"),
        ("parameters.t_max={type: categorical, choices: [700, 20]}", "parameters.t_max: t_min (up to 38) must always "
         "be below t_max (from 20)"),
        # the override against what is forgotten
        ("parameters.override=0", "parameters.override: 0 is forgotten, so it cannot be the override; choose another"),
        ("parameters.override={type: int, low: 0, high: 9}", "parameters.override: 0 is forgotten, so it cannot be "
         "the override; choose another"),
        ("parameters.override=[1, 2]", "parameters.override: must have one class for each forgotten class (1), not 2"),
        ("parameters.override=[0]", "parameters.override: 0 is forgotten, so it cannot be the override; choose "
         "another"),
        ("parameters.override=true", "parameters.override: must be a valid integer, a valid string or a list, not "
         "true"),
        ("task.forget=[3, 3]", "task.forget.1: 3 is a duplicate; remove one"),
        # settings to try first
        ("search.first=[{generator_lr: 1}]", "search.first.0.generator_lr: must be from 3e-05 to 0.0006 as in "
         "parameters.generator_lr, not 1"),
        ("search.first=[{override: 1}, {override: 2}]", "search.first.1.override: must be 1 or random as in "
         "parameters.override, not 2"),
        ("search.first=[{alpha: 1.2}]", "search.first.0.alpha: alpha is not searched; remove it here, or give "
         "parameters.alpha a distribution"),
        ("search.first=[{generater_lr: 1}]", "search.first.0.generater_lr: unknown parameter; did you mean "
         "generator_lr?"),
        # objectives and constraints
        ("objectives=[]", "objectives: must have at least 1 entry, not []"),
        ("objectives.0.metric=fd_clasifier", "objectives.0.metric: unknown metric 'fd_clasifier'; did you mean "
         "fd_classifier?"),
        ("objectives.0.metric=beauty", "objectives.0.metric: unknown metric 'beauty'; use "
         f"{', '.join([*METRICS][:-1])} or {[*METRICS][-1]}"),
        ("objectives.0.metric=kid", "objectives.0.metric: kid is measured only in the final evaluation, on the "
         "front, so it cannot be an objective"),
        ("constraints.0.metric=kid", "constraints.0.metric: kid is measured only in the final evaluation, on the "
         "front, so it cannot be a constraint"),
        ("objectives.0.metric=fid_teacher", "objectives.0.metric: fid_teacher does not fit this reference; use fid, "
         "or write `teacher` in evaluation.reference"),
        ("evaluation.metrics=[fid_teacher]", "evaluation.metrics.0: fid_teacher does not fit this reference; use "
         "fid, or write `teacher` in evaluation.reference"),
        ("objectives.0.metric=forget_entropy", "objectives.0.metric: forget_entropy has no better direction, so it "
         "can only be a constraint"),
        ("objectives.0.goal=maximize", "objectives.0.goal: fd_classifier is better when it is low; write minimize"),
        ("objectives.0.goal=max", 'objectives.0.goal: must be minimize or maximize, not "max"'),
        ("objectives.0.reference_point=0", "objectives.0.reference_point: cannot be 0: fd_classifier is "
         "a distance, at least 0, and 0 is its best value"),
        ("objectives.1.reference_point=1", "objectives.1.reference_point: cannot be 1: unlearning_accuracy is a share, "
         "from 0 to 1, and 1 is its best value"),
        ("objectives.1.reference_point=-0.1", "objectives.1.reference_point: cannot be -0.1: unlearning_accuracy is "
         "a share, from 0 to 1, and 1 is its best value"),
        ("objectives.1={metric: fd_classifier, goal: minimize, reference_point: 3}", "objectives.1.metric: "
         "'fd_classifier' is a duplicate; remove one"),
        ("constraints.0.metric=overide_distance", "constraints.0.metric: unknown metric 'overide_distance'; did you "
         "mean override_distance?"),
        ("constraints.0={metric: override_distance}", "constraints.0: a constraint needs `min` or `max`"),
        ("constraints.0={metric: override_distance, min: 5, max: 4}", "constraints.0: min (5) is above max (4)"),
        ("constraints.0={metric: unlearning_accuracy, min: 99}", "constraints.0.min: cannot be 99: unlearning_accuracy "
         "is a share, from 0 to 1"),
        ("constraints.0.max=-1", "constraints.0.max: cannot be -1: override_distance is a distance, "
         "at least 0"),
        # the assignment itself
        ("objectives.7.metric=fid", "objectives is a list of 2; use an index from 0"),
        ("objectives.first.metric=fid", "objectives is a list of 2; use an index from 0"),
        ("name.x=3", "name is \"small\", so it has no key 'x'"),
        ("budget.trials", "write KEY=VALUE, with the value in YAML"),
        ("=4", "write KEY=VALUE, with the value in YAML"),
        ("budget.trials=[", "not valid YAML: expected the node content, but found '<stream end>' (while parsing a flow "
         "node that begins in line 1)"),
    ],
)  # fmt: skip
def test_an_error_on_the_command_line_is_named_with_its_override(override: str, message: str) -> None:
    assert message_of(TEXT, override) == f"--set {override}: {message}"


def test_a_metric_that_needs_real_images_is_refused_where_the_teacher_stands_in_for_them() -> None:
    assert message_of(TEXT, "evaluation.reference=teacher").endswith(
        "objectives.0.metric: fd_classifier does not fit this reference; use fd_classifier_teacher, or name real "
        "images in evaluation.reference"
    )


@pytest.mark.parametrize("name", ["leak_rate", "inversion_rate", "relearning_rate"])
def test_an_excess_is_refused_without_the_generator_that_it_is_measured_against(name: str) -> None:
    metric = f"evaluation.metrics=[{name}, excess_{name}]"
    assert message_of(TEXT, metric) == (
        f"--set {metric}: evaluation.metrics.1: excess_{name} is measured against a generator that never knew what is "
        "forgotten; name one in audit.control"
    )
    space = parse_search_space(TEXT, "x.yaml", [metric, "audit.control=builtin:digits-without-0"])
    assert Need.CONTROL in space.asked_needs
    assert space.asked_metrics[-2:] == (name, f"excess_{name}")


@pytest.mark.parametrize("role", ["objectives.0={metric: %s, goal: minimize, reference_point: 1}",
                                  "constraints.0={metric: %s, max: 0.2}"])  # fmt: skip
@pytest.mark.parametrize("name", ["leak_rate", "inversion_rate", "relearning_rate"])
def test_durability_may_be_an_objective_or_a_constraint(role: str, name: str) -> None:
    parse_search_space(TEXT, "x.yaml", [role % name])
    parse_search_space(TEXT, "x.yaml", [role % f"excess_{name}", "audit.control=builtin:digits-without-0"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials: 16", "trails: 16", "x.yaml:18: budget.trails: unknown key; did you mean trials?"),
        ("budget:\n  trials: 16\n", "", "x.yaml:1: budget: is missing (Limits of a sweep. No trial starts beyond the "
         "limit that is reached first; running trials complete)"),
        ("low: 3e-5", "low: 0", "x.yaml:9: parameters.generator_lr.low: must be above 0 with log: true, not 0; raise "
         "it, or remove log"),
        ("[1, random]", "[1,\n      0]", "x.yaml:10: parameters.override: 0 is forgotten, so it cannot be the "
         "override; choose another"),
        ("[1, random]", "[1,\n      2.5]", "x.yaml:13: parameters.override.choices.1: must be a valid integer, a "
         "valid string or a list, not 2.5"),
        ("2e-4", "2", "x.yaml:16: search.first.0.generator_lr: must be from 3e-05 to 0.0006 as in "
         "parameters.generator_lr, not 2"),
        ("reference_point: 0", "reference_point: 2", "x.yaml:25: objectives.1.reference_point: cannot be 2: "
         "unlearning_accuracy is a share, from 0 to 1, and 1 is its best value"),
        ("max: 40", "max: forty", 'x.yaml:28: constraints.0.max: must be a valid number, not "forty"'),
        ("steps: 60", "steps: 0\n  seed: -1", "x.yaml:6: trial.steps: must be greater than 0, not 0 (and 1 more)"),
        ("steps: 60", "steps: 60\n  steps: 40", "x.yaml:7: trial.steps: duplicate key; remove one"),
        ("  forget: [0]", "\tforget: [0]", "x.yaml:4: not valid YAML: found character '\\t' that cannot start "
         "any token"),
        ("[0]", "[0", "x.yaml:5: not valid YAML: expected ',' or ']', but got ':' (while parsing a flow sequence that "
         "begins in line 4)"),
        ("small", "sm\x07all", "x.yaml:1: not valid YAML: control characters are not allowed"),
        ("small", "!env NAME", "x.yaml:1: the tag !env is not supported; remove it"),
        ("steps: 60", "steps: !!int many", "x.yaml:6: the value cannot be read as int"),
        ("steps: 60", "steps: 1" + "0" * 5000, "x.yaml:6: the value cannot be read as int"),
        ("steps: 60", "[steps]: 60", "x.yaml:6: a key must be a single word"),
        ("[0]", "&again [*again]", "x.yaml:4: nested too deeply"),
        ("[0]", "[" * 500, "x.yaml:1: nested too deeply"),
        ("name: small\n", "", "x.yaml:1: name: is missing (Name of the sweep, its folder, its MLflow runs, and its "
         "models)"),
        ("small", '"\\ud800"', "x.yaml:1: Invalid JSON: unexpected end of hex escape at line 1 column 17"),
    ],
)  # fmt: skip
def test_an_error_in_the_file_is_named_with_its_line(old: str, new: str, message: str) -> None:
    assert message_of(replaced(old, new)) == message


def test_a_space_in_which_nothing_is_searched_is_refused() -> None:
    assert message_of(TEXT, "parameters={alpha: 1.0}", "search.first=[]").startswith(
        "--set parameters={alpha: 1.0}: parameters: nothing is searched; give a parameter a distribution"
    )


def test_an_error_that_an_override_causes_elsewhere_is_named_with_the_line_of_the_file() -> None:
    assert message_of(TEXT, "trial.steps=10") == (
        "x.yaml:7: trial.evaluate_every: must not be above steps (10), but is 20"
    )


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert message_of(text) == (
        "x.yaml: is empty; a search space needs at least name, task, trial, parameters, budget, objectives"
    )


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert message_of(text) == "x.yaml:1: must be keys and values, such as `name: my-sweep`"


def test_two_documents_in_a_file_are_refused() -> None:
    assert message_of(TEXT + "---\nname: other\n").startswith("x.yaml:29: not valid YAML: but found another document")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.yaml: no such file"):
        load_search_space(tmp_path / "x.yaml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        load_search_space(tmp_path)


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("name: x\n")
    with pytest.raises(UserError, match=r"file/x\.yaml: cannot be read \(Not a directory\)"):
        load_search_space(tmp_path / "file" / "x.yaml")


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: a\ntask: \xff\n")
    with pytest.raises(UserError, match=r"x\.yaml:2: byte 0xff is not UTF-8; save the file as UTF-8"):
        load_search_space(path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(TEXT, encoding="utf-8-sig")
    assert load_search_space(path) == parse_search_space(TEXT, "x.yaml")


def test_a_dumped_search_space_loads_back_equal() -> None:
    space = load_search_space(DIGITS)
    assert parse_search_space(dump_search_space(space), "dumped") == space


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["null", "true", "1e5", "?0", "\x85", "a: b"]
)
parameters = st.fixed_dictionaries(
    {"generator_lr": st.builds(lambda ends: {"type": "float", "low": min(ends), "high": max(ends)},
                               st.tuples(*[st.floats(1e-300, 1e300)] * 2))},
    optional={
        "alpha": finite,
        "override": st.one_of(st.integers(min_value=1), text, st.lists(st.one_of(st.integers(1), text), min_size=1,
                                                                       max_size=1)),
        "ema_decay": st.fixed_dictionaries({"type": st.just("categorical"),
                                            "choices": st.lists(st.floats(0, 1, exclude_max=True), min_size=1,
                                                                unique_by=repr)}),
    },
)  # fmt: skip


@settings(deadline=None)
@given(parameters=parameters, teacher=text, uri=st.none() | text)
def test_any_search_space_survives_a_dump(parameters: dict[str, Any], teacher: str, uri: str | None) -> None:
    space = SearchSpace.model_validate(
        {
            "name": "any",
            "task": {"teacher": teacher, "forget": [0]},
            "trial": {"steps": 60, "evaluate_every": 20},
            "parameters": parameters,
            "budget": {"trials": 1},
            "objectives": [{"metric": "fd_classifier", "goal": "minimize", "reference_point": math.pi}],
            "tracking": {"uri": uri},
        }
    )
    assert parse_search_space(dump_search_space(space), "dumped") == space


def schema_errors(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema())
    return [error.json_path for error in validator.iter_errors(YAML(typ="safe", pure=True).load(text))]


def test_the_schema_accepts_the_example() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert schema_errors(DIGITS.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("trials: 16", "trials: 16\n  sample: tpe", "$.budget"),
        ("trials: 16", "trials: 0", "$.budget.trials"),
        ("low: 3e-5", "low: a", "$.parameters.generator_lr"),
        ("metric: override_distance", "metric: overide_distance", "$.constraints[0].metric"),
    ],
)
def test_the_schema_refuses_what_loading_refuses(old: str, new: str, path: str) -> None:
    assert schema_errors(replaced(old, new)) == [path]


def test_every_key_of_the_file_is_described() -> None:
    schema = json_schema()
    models = [*schema["$defs"].values(), schema]
    bare = [
        f"{model['title']}.{key}"
        for model in models
        for key, value in model.get("properties", {}).items()
        if "description" not in value and "$ref" not in value and "const" not in value
    ]
    assert bare == []


def test_reading_a_file_loads_no_heavy_library() -> None:
    heavy = {"torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pyarrow", "matplotlib"}
    script = f"import sys, sfd_sweep.config; print(*sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.strip() == ""


def test_the_earlier_name_of_a_reference_point_is_read() -> None:
    earlier = TEXT.replace("reference_point:", "reference:")
    assert parse_search_space(earlier, "x.yaml") == parse_search_space(TEXT, "x.yaml")
