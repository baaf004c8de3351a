"""Trials that forget a concept: planned, trained, judged on prompts that training never saw, and resumed."""

import pytest
import torch
from concept_cases import concept_space, digit_seen, save_tiny_teacher
from trial_cases import digits_space

from sfd_sweep.cli.plan import print_plan
from sfd_sweep.errors import UserError
from sfd_sweep.method.batch import FixedOverride
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

FIGURES = {
    "fd_classifier_teacher",
    "retain_accuracy",
    "unlearning_accuracy",
    "held_out_unlearning_accuracy",
    "override_distance",
    "forget_probability",
    "forget_entropy",
    "leak_rate",
}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concept")
    save_tiny_teacher(folder)
    return folder


@pytest.fixture(name="context", scope="module")
def _context(folder):
    return TrialContext.build(resolve_sweep(concept_space(folder)), Folder.open(folder / "references"))


def settings_of(context, **sampled):
    return context.plan.space.parameters.settings({"generator_lr": 2e-4, "override": "bee", **sampled})


def test_a_trial_reports_the_figures_of_a_concept(context, tmp_path):
    report = TrialRunner(context, settings_of(context), Folder.open(tmp_path)).advance(2)
    assert report.metrics.keys() == FIGURES | {"override_rate"}
    assert report.samples == {"retained": 60, "forgotten": 40, "held_out": 40}


def test_the_share_called_the_override_is_reported_where_the_judge_has_a_word_for_it(context, tmp_path):
    report = TrialRunner(context, settings_of(context, override="wasp"), Folder.open(tmp_path)).advance(2)
    assert report.metrics.keys() == FIGURES


def test_an_interrupted_trial_ends_as_if_nothing_had_been(context, tmp_path):
    settings = settings_of(context)
    whole = TrialRunner(context, settings, Folder.open(tmp_path / "whole"))
    whole.advance(2)
    TrialRunner(context, settings, Folder.open(tmp_path / "broken")).advance(2)
    resumed = TrialRunner(context, settings, Folder.open(tmp_path / "broken")).advance(4)
    assert resumed.metrics == whole.advance(4).metrics


def test_the_generator_that_is_kept_is_the_one_that_was_judged(context, tmp_path):
    settings, folder = settings_of(context), Folder.open(tmp_path)
    report = TrialRunner(context, settings, folder).advance(2)
    kept = load_generator(folder, 2, prompts=context.plan.prompts)
    again = context.evaluate(kept, settings.override, samples=60, forget_samples=40, final=False)
    assert again.metrics == pytest.approx(report.metrics, rel=1e-4)
    assert kept.condition_names == context.plan.prompts


def test_each_forgotten_prompt_is_replaced_by_the_same_prompt_about_the_override(context):
    task, names = context.unlearning(settings_of(context)).task, context.plan.conditions.names
    assert isinstance(task.override, FixedOverride)
    replaced = {names[index]: names[to] for index, to in task.override.override_of.items()}
    assert replaced == {"ant": "bee", "an ant at work": "an bee at work"}
    trained = {names[index] for index in (*task.retained, *task.forgotten)}
    assert "red ant" not in trained


def test_the_teacher_is_guided_away_from_the_negative_prompt_where_something_is_forgotten(folder, monkeypatch):
    space = concept_space(folder, "parameters.negative_prompt=many ants", "parameters.guidance_scale=2")
    context = TrialContext.build(resolve_sweep(space), None)
    trainer, asked = context.unlearning(settings_of(context)), []
    guided = type(trainer.teacher).guided

    def noted(model, x_t, t, c, scale, *, away_from=None):
        if model is trainer.teacher:
            asked.append(away_from)
        return guided(model, x_t, t, c, scale, away_from=away_from)

    monkeypatch.setattr(type(trainer.teacher), "guided", noted)
    trainer.update()
    names, null = context.plan.conditions.names, trainer.teacher.conditioning.null
    assert asked[0].tolist() == [null] * 8 + [names.index("many ants")] * 4


def test_guidance_away_from_a_prompt_is_the_extrapolation_from_it(context):
    teacher = context.teacher
    x_t, t = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([300, 500])
    c, away = torch.tensor([0, 1]), torch.tensor([2, 3])
    x, x_away = teacher(x_t, t, c).x_0, teacher(x_t, t, away).x_0
    found = teacher.guided(x_t, t, c, 2.5, away_from=away).x_0
    torch.testing.assert_close(found, x_away + 2.5 * (x - x_away), rtol=1e-4, atol=1e-4)


LONG = "cow " * 20


def test_a_retained_prompt_may_be_longer_than_the_models_read(folder, tmp_path, capsys):
    plan = resolve_sweep(concept_space(folder, f"task.prompts.retain=[cow, bee, {LONG}]"))
    assert [plan.conditions.names[index] for index in plan.cut_prompts] == [" ".join(LONG.split())]
    print_plan(plan, ())
    assert "1 prompts, which are longer than the models read" in " ".join(capsys.readouterr().out.split())
    context = TrialContext.build(plan, None)
    assert TrialRunner(context, settings_of(context), Folder.open(tmp_path)).advance(2).metrics.keys() >= FIGURES


@pytest.mark.parametrize("key", ["forget", "held_out"])
def test_a_prompt_about_the_concept_may_not(folder, key):
    message = refused(concept_space(folder, f"task.prompts.{key}=[{LONG} ant]"))
    assert "is longer than the models read, and without its end it may not name what is to be forgotten" in message


def test_teacher_and_start_share_the_prompts_that_they_read_alike(folder, tmp_path):
    start = tmp_path / "start"
    OneStepGenerator(load_score_model(ModelFolder.open(str(folder / "teacher"))), 440).save(start)
    context = TrialContext.build(resolve_sweep(concept_space(folder, f"task.start={start}")), None)
    assert context.start is not context.teacher
    assert context.start.conditioning is context.teacher.conditioning


def refused(space):
    with pytest.raises(UserError) as caught:
        TrialContext.build(resolve_sweep(space), None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_judge_that_does_not_see_the_concept_in_the_teachers_images_is_refused(folder):
    unseen = (digit_seen(folder) + 5) % 10
    message = refused(concept_space(folder, called=unseen))
    assert "the classifier builtin:digits recognizes 'ant' in 0% of 100 images" in message
    assert "choose another classifier" in message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["evaluation.class_of={}"], "the classifier builtin:digits has no class 'ant', which is to be forgotten"),
        (["evaluation.class_of={ant: eleven}"], "evaluation.class_of.ant: there is no class 'eleven'"),
        (["evaluation.class_of={ant: 1, bee: 1}"], "would call 'bee' by the same class as what is forgotten"),
        (["task.teacher=builtin:digits"], "task.kind: concept needs a text-to-image teacher"),
        (
            ["evaluation.metrics=[override_rate]"],
            "override_rate: the classifier builtin:digits has no class of the name of every override; map the name to",
        ),
        (["task.prompts.forget=[a dog]"], "no prompt is about 'ant'"),
        (["evaluation.teacher_samples.override_samples=20"], "give more images"),
    ],
)
def test_what_does_not_fit_a_concept_is_refused(folder, overrides, words, tmp_path):
    space = concept_space(folder, *overrides)
    if "override_samples" not in overrides[0]:
        assert words in refused(space)
        return
    context = TrialContext.build(resolve_sweep(space), None)
    with pytest.raises(UserError, match=words):
        TrialRunner(context, settings_of(context), Folder.open(tmp_path)).advance(2)


def test_a_teacher_of_prompts_needs_a_concept(folder):
    assert "set task.kind: concept" in refused(digits_space(f"task.teacher={folder}/teacher", "task.start=teacher"))


def test_a_plan_counts_the_adapters_that_a_trial_trains(folder, tmp_path):
    plan = resolve_sweep(concept_space(folder, "parameters.lora_rank=3", called=1))
    context = TrialContext.build(resolve_sweep(concept_space(folder, "parameters.lora_rank=3")), None)
    trained = sum(
        weight.numel()
        for name, weight in context.unlearning(settings_of(context)).state().items()
        if name.startswith("generator.")
    )
    assert plan.training_state_bytes == 7 * 4 * trained
    assert plan.model_bytes < resolve_sweep(concept_space(folder, called=1)).model_bytes
    folder = Folder.open(tmp_path)
    assert TrialRunner(context, settings_of(context), folder).advance(2).metrics.keys() >= FIGURES


def test_a_network_without_attention_has_adapters_everywhere():
    model = ModelFolder.open("builtin:digits")
    adapted = TrainableModel.of(load_score_model(model), 2)
    assert sum(weight.numel() for weight in adapted.parameters.values()) == 2 * model.adapter_size
