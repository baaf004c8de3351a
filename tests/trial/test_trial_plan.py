"""A search space held against its teacher: what is resolved, and what is refused before anything starts."""

import json

import pytest
import torch
from concept_cases import concept_space, save_tiny_teacher
from tiny_latent_models import save_dit, tiny_transformer, tiny_vae
from tiny_models import FLOW, save_teacher, tiny_model
from tiny_text_models import save_stable_diffusion
from trial_cases import digits_settings, digits_space, save_second_classifier

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.weights import WEIGHTS
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        resolve_sweep(digits_space(*overrides))
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_plan_resolves_every_name():
    plan = resolve_sweep(digits_space('task.forget=[3, "0"]', "parameters.override=random"))
    assert plan.conditions == Conditions.of_classes("0123456789", [3, 0])
    assert plan.conditions.retain == plan.conditions.evaluated == (1, 2, 4, 5, 6, 7, 8, 9)
    assert plan.teacher.t_init is None
    assert plan.start.t_init == 440


def test_a_one_stage_sweep_starts_from_its_teacher():
    plan = resolve_sweep(digits_space("task.start=teacher"))
    assert plan.start is plan.teacher


def test_memory_and_disk_are_counted_from_the_teachers_weights():
    plan = resolve_sweep(digits_space())
    weights = plan.teacher.parameter_count * 4
    assert plan.model_bytes == 11 * weights  # teacher and start, and what is trained
    assert plan.checkpoint_bytes == 8 * weights
    # Slots write a checkpoint while they still have the last, and each of the trials may end up on the front.
    trials = plan.space.budget.trials
    most = (3 * 2 * 8 + trials) * weights / 1e6
    assert plan.weights_in_words(slots=3) == f"weights take at most {most:,.0f} MB, if all trials are on the front"


@pytest.mark.parametrize(("metric", "copies"), [("inversion_rate", 1), ("relearning_rate", 4), ("leak_rate", 0)])
def test_memory_counts_the_copies_that_attacks_work_on_and_the_control(metric, copies):
    control = "audit.control=builtin:digits-without-0"
    weights = resolve_sweep(digits_space()).model_bytes // 11
    assert resolve_sweep(digits_space(f"evaluation.metrics=[{metric}]")).model_bytes == (11 + copies) * weights
    excess = resolve_sweep(digits_space(f"evaluation.metrics=[excess_{metric}]", control))
    assert excess.model_bytes == (11 + copies + 1) * weights


def test_a_latent_models_autoencoder_is_counted_where_it_is_loaded_and_written(tmp_path):
    """It is neither trained nor copied: once in memory for a teacher, once more for another start."""
    teacher = save_dit(tmp_path / "teacher")
    generator = tmp_path / "generator"
    OneStepGenerator(load_score_model(ModelFolder.open(str(teacher))), 440).save(generator)
    network, vae = (
        4 * sum(parameter.numel() for parameter in part.parameters()) for part in (tiny_transformer(), tiny_vae())
    )
    for start, loaded in (("teacher", 1), (generator, 2)):
        plan = resolve_sweep(digits_space(f"task.teacher={teacher}", f"task.start={start}", *TINY))
        assert plan.model_bytes == (9 + loaded) * network + loaded * vae
        assert plan.checkpoint_bytes == 8 * network + vae
        assert plan.generator_bytes == network + vae
    files = list(generator.rglob("*.safetensors"))
    headers = 2 * 20_000
    assert plan.generator_bytes < sum(path.stat().st_size for path in files) < plan.generator_bytes + headers


@pytest.mark.parametrize(
    ("override", "expected"),
    [("random", None), ("classifier", None), (1, (1, 1)), ('"7"', (7, 7)), ('[1, "7"]', (1, 7))],
)
def test_what_replaces_each_forgotten_class_is_an_index_or_any_retained_class(override, expected):
    second = "task.override_classifier=models/second"
    plan = resolve_sweep(digits_space("task.forget=[0, 3]", f"parameters.override={override}", second))
    assert [*plan.overrides.values()] == [expected]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task.teacher=builtin:cats"], "unknown shipped model 'builtin:cats'"),
        (["task.teacher=/nowhere/at/all"], "no model folder at '/nowhere/at/all'"),
        (["task.teacher=builtin:digits-distilled"], "task.teacher: "),
        (["task.forget=[zero]"], "no class 'zero'"),
        (["task.forget=[10]"], "no class 10"),
        (['task.forget=[0, "0"]'], "names a class twice"),
        (["task.forget=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "parameters.override=random"], "every class is forgotten"),
        (["parameters.override=ten"], "no class 'ten'"),
        (['parameters.override="0"'], "'0' is forgotten; name a retained class"),
        (['parameters.override={type: categorical, choices: [1, "0"]}'], "'0' is forgotten; name a retained class"),
        (["parameters.t_init=1000", "task.start=teacher"], "parameters.t_init: 1000 is beyond"),
        (["parameters.t_max=1001"], "parameters.t_max: 1001 is beyond"),
        (["parameters.t_max={type: int, low: 700, high: 1001}"], "parameters.t_max: 1001 is beyond"),
        (["parameters.t_init=300"], "set t_init: 440"),
        (["parameters.t_init={type: int, low: 300, high: 440}"], "set t_init: 440"),
    ],
)
def test_what_does_not_fit_the_teacher_is_refused(overrides, words):
    assert words in refusal(*overrides)


def test_the_last_step_of_the_schedule_may_be_used():
    resolve_sweep(digits_space("parameters.t_max=1000", "parameters.t_init=999", "task.start=teacher"))


TINY = ["task.forget=[ant]", "parameters.override=bee"]


@pytest.mark.parametrize("step", ["t_min=1000", "t_init=1000", "t_max=1001"])
def test_steps_beyond_a_flows_schedule_are_refused_with_those_of_usual_noise(tmp_path, step):
    teacher = save_teacher(tmp_path / "teacher", tiny_model(FLOW))
    steps = {"t_max": "t_max=1000"} | ({"t_max": "t_max=1002"} if step.startswith("t_min") else {})
    steps[step.partition("=")[0]] = step
    overrides = [f"parameters.{each}" for each in steps.values()]
    message = refusal(f"task.teacher={teacher}", "task.start=teacher", *TINY, *overrides)
    name, _, value = step.partition("=")
    assert f"parameters.{name}: {value} is beyond the teacher's schedule of 1000 steps" in message
    assert message.endswith("; steps of usual noise are t_min 43, t_init 454, t_max 813")


@pytest.mark.parametrize(
    ("parameter", "without"),
    [
        ("guidance_scale", 1),
        ("fake_score_guidance_scale", 1),
        ("fake_score_training_guidance_scale", 1),
        ("condition_dropout", 0),
    ],
)
@pytest.mark.parametrize("value", ["0.5", "{type: float, low: 0, high: 0.5}"])
def test_guidance_is_refused_where_the_teacher_has_no_null_label(tmp_path, parameter, without, value):
    teacher = save_teacher(tmp_path / "teacher", tiny_model(null_label=False))
    task = [f"task.teacher={teacher}", "task.start=teacher", *TINY]
    resolve_sweep(digits_space(*task))
    message = refusal(*task, f"parameters.{parameter}={value}")
    assert f"parameters.{parameter}: guidance needs a null label" in message
    assert message.endswith(f"fix it at {without}")


def test_a_teacher_of_prompts_is_refused(tmp_path):
    teacher = save_stable_diffusion(tmp_path / "teacher")
    assert f"task.teacher: {teacher} is a text-to-image model" in refusal(f"task.teacher={teacher}")


def test_a_start_with_images_of_another_size_is_refused(tmp_path):
    """Of equal latents: this one's autoencoder doubles them, and the other one's leaves their size."""
    teacher, other = save_dit(tmp_path / "teacher"), save_dit(tmp_path / "other", vae=tiny_vae(blocks=1))
    message = refusal(f"task.teacher={teacher}", f"task.start={other}", *TINY)
    assert "another image size than the teacher" in message


def test_an_autoencoder_that_is_cut_short_is_refused_before_anything_starts(tmp_path):
    teacher = save_dit(tmp_path / "teacher")
    weights = teacher / "vae" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:3000])
    assert f"{weights} is no whole safetensors file" in refusal(f"task.teacher={teacher}", "task.start=teacher", *TINY)


def test_a_start_of_other_classes_is_refused(tmp_path):
    teacher = save_teacher(tmp_path / "teacher", tiny_model())
    message = refusal(f"task.teacher={teacher}", *TINY)
    assert "task.start" in message
    assert "other classes or another image size" in message


@pytest.mark.parametrize("broken", ["teacher", "start"])
def test_weights_that_are_cut_short_are_refused_before_anything_starts(tmp_path, broken):
    folders = {"teacher": tmp_path / "teacher", "start": tmp_path / "start"}
    save_teacher(folders["teacher"], tiny_model())
    OneStepGenerator(tiny_model(), 440).save(folders["start"])
    weights = folders[broken] / "unet" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:3000])
    message = refusal(f"task.teacher={folders['teacher']}", f"task.start={folders['start']}", *TINY)
    assert str(weights) in message


def test_a_teacher_without_names_for_its_classes_is_refused(tmp_path):
    teacher = save_teacher(tmp_path / "teacher", tiny_model())
    index = json.loads((teacher / "model_index.json").read_text())
    del index["id2label"]
    (teacher / "model_index.json").write_text(json.dumps(index))
    assert "id2label" in refusal(f"task.teacher={teacher}", "task.start=teacher", *TINY)


def teacher_without(folder, *absent, name="teacher"):
    """The shipped teacher, which says that it was trained without some digits."""
    model = load_score_model(ModelFolder.open("builtin:digits"))
    return save_teacher(folder / name, model.with_conditioning(ClassLabels("0123456789", absent=absent)))


def test_what_a_teacher_never_knew_is_not_retained(tmp_path):
    teacher = teacher_without(tmp_path, 5, 7)
    plan = resolve_sweep(digits_space(f"task.teacher={teacher}", "task.start=teacher", "parameters.override=random"))
    assert plan.conditions.names == tuple("0123456789")
    assert plan.conditions.forget == (0,)
    assert plan.conditions.retain == plan.conditions.evaluated == (1, 2, 3, 4, 6, 8, 9)


def test_a_classifier_never_chooses_what_the_teacher_never_knew_as_override(tmp_path):
    teacher = teacher_without(tmp_path, 5)
    second = save_second_classifier(tmp_path / "second")
    chosen_by = (f"task.override_classifier={second}", "parameters.override=classifier")
    space = digits_space(f"task.teacher={teacher}", "task.start=teacher", *chosen_by)
    context = TrialContext.build(resolve_sweep(space), None)
    task = context.unlearning(digits_settings(space)).task
    fives = load_images("builtin:digits").of_classes([5]).images
    chosen = task.override(torch.zeros(len(fives)), torch.zeros(len(fives)), fives)
    assert set(chosen.tolist()) <= set(task.retained) == {1, 2, 3, 4, 6, 7, 8, 9}


@pytest.mark.parametrize(
    ("absent", "overrides", "words"),
    [
        ((0,), (), "task.forget: {teacher} was never trained on '0', so there is nothing to forget"),
        ((1,), (), "parameters.override: {teacher} was never trained on '1'; name another override"),
        (
            (1, 2, 3, 4, 5, 6, 7, 8, 9),
            ("parameters.override=random",),
            "was never trained on anything that is retained",
        ),
        (
            (5,),
            ("task.start=builtin:digits-distilled",),
            "task.start: teacher and start were trained without different classes ('5' and none)",
        ),
    ],
)
def test_what_a_teacher_never_knew_can_be_neither_forgotten_nor_an_override(tmp_path, absent, overrides, words):
    teacher = teacher_without(tmp_path, *absent)
    message = refusal(f"task.teacher={teacher}", "task.start=teacher", *overrides)
    assert words.format(teacher=teacher) in message


def test_a_start_that_never_knew_what_its_teacher_knows_is_refused():
    message = refusal("task.start=builtin:digits-without-0")
    assert message.startswith("task.start: ")
    assert "(none and '0'); distill the start from the teacher" in message


def test_prompts_that_name_what_the_teacher_never_knew_are_not_retained(tmp_path):
    save_tiny_teacher(tmp_path)
    index = tmp_path / "teacher" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"absent": {"concepts": ["owl", "wasp"]}}))

    def plan(*overrides):
        return resolve_sweep(concept_space(tmp_path, *overrides, called=1))

    conditions = plan("parameters.override=bee").conditions
    retained = [conditions.names[index] for index in conditions.retain]
    assert retained == ["cow", "a bee", "old bee"]
    with pytest.raises(UserError, match=r"parameters.override: .* was never trained on 'wasp'"):
        plan()
    with pytest.raises(UserError, match=r"task.forget: .* was never trained on 'owl', so there is nothing to forget"):
        plan(
            "parameters.override=cow", "task.forget=[owl]", "task.prompts.others=[bee]", "evaluation.class_of={owl: 1}"
        )


@pytest.mark.parametrize("value", ["true", "{type: categorical, choices: [true, false]}"])
def test_dropout_is_refused_where_the_network_has_none(tmp_path, value):
    changes = (
        "task.start=teacher",
        "task.forget=[ant]",
        "parameters.override=bee",
        f"parameters.network_dropout={value}",
    )
    for dropout in (0.0, 0.1):
        save_teacher(tmp_path / str(dropout), tiny_model(dropout=dropout))
    assert resolve_sweep(digits_space(f"task.teacher={tmp_path}/0.1", *changes))
    with pytest.raises(UserError, match=r"network_dropout: the network of .*/0.0 has no dropout"):
        resolve_sweep(digits_space(f"task.teacher={tmp_path}/0.0", *changes))
