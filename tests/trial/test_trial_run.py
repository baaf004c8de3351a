"""Trials of real digits: advanced, interrupted, resumed and judged."""

import dataclasses
import io
import json
import math

import pytest
import torch
from PIL import Image
from tiny_models import save_teacher, tiny_model
from trial_cases import digits_settings, digits_space, save_second_classifier

from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.evaluation import evaluator
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import grid_columns
from sfd_sweep.evaluation.image_scorer import ImageScorer
from sfd_sweep.evaluation.sample_grid import GAP
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.metrics import Need, reported
from sfd_sweep.models import data_parallel
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.weights import WEIGHTS
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import (
    GENERATOR,
    GRID,
    REPORT,
    START_GRID,
    TRAINING_STATE,
    drop_weights,
    read_report,
    reported_steps,
    step_folder,
    trial_folder,
    trials_with_weights,
)
from sfd_sweep.trial.report import Report
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

SPACE = digits_space()
SETTINGS = digits_settings(SPACE)


@pytest.fixture(name="context", scope="module")
def _context():
    return TrialContext.build(resolve_sweep(SPACE), None)


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return Folder.open(tmp_path / "0000")


@pytest.fixture(name="finished", scope="module")
def _finished(context, tmp_path_factory):
    """A trial that was advanced to its end without interruption: its folder and both reports."""
    folder = Folder.open(tmp_path_factory.mktemp("finished"))
    trial = TrialRunner(context, SETTINGS, folder)
    return folder, [trial.advance(2), trial.advance(4)]


@pytest.fixture(name="updates")
def _updates(monkeypatch):
    """The steps that are trained while a test runs."""
    trained, update = [], Trainer.update

    def counted(trainer):
        trained.append(trainer.step + 1)
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", counted)
    return trained


def untimed(report: Report) -> Report:
    return dataclasses.replace(report, seconds={}, evaluation_seconds={})


def files(folder: Folder) -> dict[str, bytes]:
    """Every file below a folder but reports, whose seconds differ."""
    return {
        f"{folder.name}/{name}": folder.read(name) for name in folder.names() if name.endswith((".safetensors", ".png"))
    }


def test_a_trial_reports_every_metric_at_each_evaluation(finished):
    _, reports = finished
    assert [report.step for report in reports] == [2, 4]
    for report in reports:
        assert list(report.metrics) == [metric.name for metric in reported({Need.FEATURES, Need.REAL_IMAGES})]
        assert all(math.isfinite(value) for value in report.metrics.values())
        assert report.samples["retained"] == 63  # nine classes, the same number of each
        assert report.samples["forgotten"] == 40
        assert report.losses.keys() == {"generator", "fake_score"}
        assert report.evaluation_seconds.keys() == {"sampling", "scoring", "comparing"}
        assert sum(report.evaluation_seconds.values()) < report.seconds["evaluating"]
        assert report.seconds.keys() == {"training", "evaluating", "saving"}
        assert all(seconds > 0 for seconds in report.seconds.values())
        assert report.dropped_samples == 0


def test_reports_grids_and_the_last_generator_are_kept(finished):
    folder, reports = finished
    assert folder.names() == ["step-000002", "step-000004"]
    assert reported_steps(folder) == [2, 4]
    assert step_folder(folder, 2).names() == [GRID, REPORT]
    assert step_folder(folder, 4).names() == [GENERATOR, GRID, REPORT]
    assert [read_report(folder, step) for step in (2, 4)] == reports
    assert Image.open(io.BytesIO(step_folder(folder, 4).read(GRID))).format == "PNG"


def test_a_trial_of_large_images_shows_fewer_of_them(context, finished, folder, monkeypatch):
    monkeypatch.setattr(evaluator, "GRID_LARGE", 7)  # digits have 8 pixels a side
    TrialRunner(context, SETTINGS, folder).advance(2)
    few, many = (Image.open(io.BytesIO(step_folder(each, 2).read(GRID))) for each in (folder, finished[0]))
    assert many.width - few.width == 6 * (32 + 2 * GAP)


def test_an_unfinished_trial_keeps_what_it_goes_on_from(context, folder):
    TrialRunner(context, SETTINGS, folder).advance(2)
    assert step_folder(folder, 2).names() == [GENERATOR, GRID, REPORT, TRAINING_STATE]


def test_what_a_killed_worker_left_of_a_state_goes_with_the_weights_of_its_step(context, folder):
    part = f"{TRAINING_STATE}.0a1b.part"
    TrialRunner(context, SETTINGS, folder).advance(2)
    step_folder(folder, 2).write(part, b"killed while it was written")
    TrialRunner(context, SETTINGS, folder).advance(4)
    assert step_folder(folder, 2).names() == [GRID, REPORT]


def test_a_part_of_a_state_alone_is_weights_too(tmp_path):
    sweep = Folder.open(tmp_path)
    step_folder(trial_folder(sweep, 5), 2).write(f"{TRAINING_STATE}.0a1b.part", b"killed while it was written")
    assert trials_with_weights(sweep) == {5}


def test_other_workers_get_the_final_report_of_the_first_and_evaluate_nothing(context, tmp_path, monkeypatch):
    told = Report(4, {"fd_classifier": 1.0}, {"retained": 80, "forgotten": 40}, {}, {"evaluating": 1.0})

    def receive(outcome):
        outcome[:] = [told, None]

    monkeypatch.setattr(data_parallel, "rank_and_size", lambda: (1, 2))
    monkeypatch.setattr(data_parallel.dist, "broadcast_object_list", receive)
    nothing = Folder.open(tmp_path / "nothing")
    assert context.evaluate_final(SETTINGS, nothing, samples=80, forget_samples=40) is told


@pytest.mark.parametrize("generators", [True, False])
def test_the_weights_of_a_trial_are_dropped_and_all_else_stays(context, tmp_path, generators):
    sweep = Folder.open(tmp_path)
    trial = trial_folder(sweep, 3)
    TrialRunner(context, SETTINGS, trial).advance(2)
    (step_folder(trial, 4) / GENERATOR).write("half.safetensors", b"what a killed worker left")
    step_folder(trial, 4).write(TRAINING_STATE, b"likewise")
    for step in (2, 4):
        step_folder(trial, step).write(f"{TRAINING_STATE}.0a1b.part", b"likewise")
    assert trials_with_weights(sweep) == {3}
    for _ in range(2):  # the second time there is nothing left to do
        drop_weights(trial, generators=generators)
        assert step_folder(trial, 2).names() == [*([] if generators else [GENERATOR]), GRID, REPORT]
        assert step_folder(trial, 4).names() == ([] if generators else [GENERATOR])
    assert trials_with_weights(sweep) == (set() if generators else {3})
    assert reported_steps(trial) == [2]


def test_the_saved_generator_is_the_moving_average(context, folder):
    trial = TrialRunner(context, SETTINGS, folder)
    trial.advance(2)
    trainer = context.unlearning(SETTINGS)
    trainer.update()
    trainer.update()
    found, expected = load_generator(folder, 2).sample([1, 2, 3]), trainer.ema_generator.sample([1, 2, 3])
    assert torch.equal(found, expected)
    assert not torch.equal(found, trainer.generator.sample([1, 2, 3]))


def test_a_report_tells_the_mean_losses_and_how_many_samples_were_dropped(context, folder):
    """With a teacher whose predictions for one class are not finite."""
    teacher = context.teacher.copy()
    teacher.network.class_embedding.weight[3] = torch.nan
    broken = dataclasses.replace(context, teacher=teacher)
    report = TrialRunner(broken, SETTINGS, folder).advance(4)
    trainer = broken.unlearning(SETTINGS)
    updates = [trainer.update() for _ in range(4)]
    assert report.losses["generator"] == pytest.approx(sum(float(update.generator) for update in updates) / 4)
    assert report.losses["fake_score"] == pytest.approx(sum(float(update.fake_score) for update in updates) / 4)
    assert report.dropped_samples == sum(update.dropped_samples for update in updates) > 0


def test_a_two_stage_trial_starts_from_the_distilled_generator(context):
    trainer = context.unlearning(SETTINGS)
    distilled = OneStepGenerator.load("builtin:digits-distilled")
    assert torch.equal(trainer.generator.sample([1, 2, 3]), distilled.sample([1, 2, 3]))
    for name, weight in load_score_model(ModelFolder.open("builtin:digits")).state_dict().items():
        assert torch.equal(trainer.fake_score.state_dict()[name], weight), name


def test_a_step_that_was_reported_is_not_trained_again(context, finished, updates):
    folder, reports = finished
    trial = TrialRunner(context, SETTINGS, folder)
    assert [trial.advance(2), trial.advance(4)] == reports
    assert updates == []


def test_equal_settings_and_seed_give_equal_trials(context, finished, folder):
    finished_folder, reports = finished
    trial = TrialRunner(context, SETTINGS, folder)
    assert [untimed(trial.advance(step)) for step in (2, 4)] == list(map(untimed, reports))
    assert files(step_folder(folder, 4) / GENERATOR / "unet") == files(
        step_folder(finished_folder, 4) / GENERATOR / "unet"
    )


def test_another_seed_gives_another_trial(finished, folder):
    space = digits_space("trial.seed=1")
    other = TrialRunner(TrialContext.build(resolve_sweep(space), None), SETTINGS, folder).advance(2)
    assert untimed(other) != untimed(finished[1][0])


def test_an_interrupted_trial_goes_on_where_it_was_and_ends_as_if_it_had_not_been(context, finished, folder, updates):
    finished_folder, reports = finished
    TrialRunner(context, SETTINGS, folder).advance(2)
    (step_folder(folder, 4) / GENERATOR).write("half.safetensors", b"what a killed worker left")
    resumed = TrialRunner(context, SETTINGS, folder).advance(4)
    assert updates == [1, 2, 3, 4]
    assert untimed(resumed) == untimed(reports[1])
    for place in ("", "unet"):
        found, expected = (
            files((step_folder(each, 4) / GENERATOR) / place if place else step_folder(each, 4))
            for each in (folder, finished_folder)
        )
        assert found == expected
    assert (step_folder(folder, 4) / GENERATOR).names() == (step_folder(finished_folder, 4) / GENERATOR).names()


def test_a_trial_goes_on_from_the_last_of_its_reports(folder, updates):
    space = digits_space("trial.steps=3", "trial.evaluate_every=1")
    context = TrialContext.build(resolve_sweep(space), None)
    for step in (1, 2, 3):
        TrialRunner(context, SETTINGS, folder).advance(step)
    assert updates == [1, 2, 3]
    assert reported_steps(folder) == [1, 2, 3]


def test_an_evaluation_that_cannot_be_saved_is_done_again_from_the_last_report(context, finished, folder, updates):
    trial = TrialRunner(context, SETTINGS, folder)
    trial.advance(2)
    folder.write("step-000004", b"a file in the way of the folder")
    with pytest.raises(OSError, match="step-000004"):
        trial.advance(4)
    folder.remove("step-000004")
    assert untimed(trial.advance(4)) == untimed(finished[1][1])
    assert updates == [1, 2, 3, 4, 3, 4]


def test_a_training_state_goes_to_the_disk_and_back_without_being_in_memory_as_a_file(context, folder, monkeypatch):
    in_memory, write, read = [], Folder.write, Folder.read

    def noted_write(self, name, content):
        in_memory.append(name)
        write(self, name, content)

    def noted_read(self, name):
        in_memory.append(name)
        return read(self, name)

    monkeypatch.setattr(Folder, "write", noted_write)
    monkeypatch.setattr(Folder, "read", noted_read)
    TrialRunner(context, SETTINGS, folder).advance(2)
    TrialRunner(context, SETTINGS, folder).advance(4)
    assert set(in_memory) == {GRID, REPORT}


@pytest.mark.parametrize("damage", ["cut short", "missing", "of another network"])
def test_a_training_state_that_is_lost_fails_the_trial_and_is_named(context, folder, damage):
    TrialRunner(context, SETTINGS, folder).advance(2)
    step = step_folder(folder, 2)
    content = step.read(TRAINING_STATE)
    step.remove(TRAINING_STATE)
    if damage == "cut short":
        step.write(TRAINING_STATE, content[: len(content) // 2])
    elif damage == "of another network":
        step.write(TRAINING_STATE, content.replace(b"generator.network.conv_in", b"generator.network.conv_no"))
    with pytest.raises(TrialFailed, match=f"cannot resume from .*step-000002/{TRAINING_STATE}") as raised:
        TrialRunner(context, SETTINGS, folder).advance(4)
    assert "\n" not in str(raised.value)
    assert reported_steps(folder) == [2]


@pytest.mark.parametrize("content", ["", '{"step": 4, "metr', '{"step": 4}'])
def test_a_broken_report_counts_as_none(context, folder, content):
    TrialRunner(context, SETTINGS, folder).advance(2)
    step_folder(folder, 4).write(REPORT, content.encode())
    assert reported_steps(folder) == [2]
    assert TrialRunner(context, SETTINGS, folder).advance(4).step == 4
    assert reported_steps(folder) == [2, 4]


def test_a_trial_that_diverges_fails_and_reports_nothing_more(context, folder):
    wild = digits_settings(SPACE, generator_lr=1e-3).model_copy(update={"generator_lr": 1e12})
    with pytest.raises(TrialFailed):
        TrialRunner(context, wild, folder).advance(4)
    assert reported_steps(folder) == []


def test_the_generator_that_is_kept_is_the_one_that_was_evaluated(context, finished):
    folder, reports = finished
    kept = load_generator(folder, 4)
    found = context.evaluate(kept, SETTINGS.override, samples=60, forget_samples=40, final=False)
    assert found.metrics == pytest.approx(reports[1].metrics)


def test_a_finished_trial_is_judged_on_other_noise_and_other_numbers_of_samples(context, finished):
    folder, reports = finished
    first, again = (context.evaluate_final(SETTINGS, folder, samples=60, forget_samples=40) for _ in range(2))
    assert first.step == 4
    assert first.metrics == again.metrics
    assert first.samples == reports[1].samples
    assert first.metrics["fd_classifier"] != reports[1].metrics["fd_classifier"]
    assert first.metrics["forget_entropy"] != reports[1].metrics["forget_entropy"]
    more = context.evaluate_final(SETTINGS, folder, samples=180, forget_samples=50)
    assert more.samples == {"retained": 180, "forgotten": 50}
    assert more.metrics["fd_classifier"] != reports[1].metrics["fd_classifier"]
    assert reported_steps(folder) == [2, 4]


def test_a_saved_generator_that_is_lost_or_broken_is_named_where_it_was_saved(context, folder):
    with pytest.raises(UserError, match="step-000002/generator is missing"):
        load_generator(folder, 2)
    TrialRunner(context, SETTINGS, folder).advance(2)
    saved = step_folder(folder, 2) / GENERATOR
    (saved / "unet").write(WEIGHTS, (saved / "unet").read(WEIGHTS)[:1000])
    with pytest.raises(UserError, match=f"{saved.path}/unet/{WEIGHTS} is no whole safetensors file"):
        load_generator(folder, 2)


@pytest.mark.parametrize("override", [1, "7", "random", "classifier"])
def test_every_override_can_be_trained_and_judged(folder, tmp_path, override):
    second = save_second_classifier(tmp_path / "second")
    space = digits_space(f"parameters.override={json.dumps(override)}", f"task.override_classifier={second}")
    report = TrialRunner(TrialContext.build(resolve_sweep(space), None), digits_settings(space), folder).advance(2)
    assert 0 <= report.metrics["override_rate"] <= 1


def test_the_second_classifier_chooses_overrides_and_the_first_one_evaluates(tmp_path):
    second = load_classifier(str(save_second_classifier(tmp_path / "second")))
    space = digits_space("parameters.override=classifier", f"task.override_classifier={tmp_path}/second")
    context = TrialContext.build(resolve_sweep(space), None)
    x_psi = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    c = torch.zeros(20, dtype=torch.long)
    logits = second(x_psi)
    logits[:, 0] = -torch.inf
    assert torch.equal(context.unlearning(digits_settings(space)).task.override(c, c, x_psi), logits.argmax(1))
    assert context.evaluator.classifier.content_hash() == load_classifier("builtin:digits").content_hash()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((), "needs a classifier that does not decide on what it chose"),
        (("task.override_classifier=builtin:digits",), "builtin:digits is also evaluation.classifier"),
        (("task.override_classifier={}/second", "audit.judge={}/second"), "second is also audit.judge"),
        (("task.override_classifier={}/copy",), "copy has the weights of evaluation.classifier"),
        (("task.override_classifier={}/none",), "task.override_classifier: .*/none: there is no classifier"),
    ],
)
def test_a_classifier_that_decides_does_not_choose_overrides(tmp_path, changes, message):
    save_second_classifier(tmp_path / "second")
    load_classifier("builtin:digits").save(tmp_path / "copy")
    space = digits_space("parameters.override=classifier", *(each.format(tmp_path) for each in changes))
    with pytest.raises(UserError, match=message):
        TrialContext.build(resolve_sweep(space), None)


def test_several_forgotten_classes_each_have_their_own_override(folder):
    space = digits_space("task.forget=[0, 3]", "parameters.override=[1, 8]")
    report = TrialRunner(TrialContext.build(resolve_sweep(space), None), digits_settings(space), folder).advance(2)
    assert report.samples == {"retained": 64, "forgotten": 40}


def test_a_trial_computes_as_its_resources_say_and_is_judged_in_float32(context, finished, folder, monkeypatch):
    space = digits_space(
        "resources.precision=tf32",  # which changes nothing without a GPU, but the switches are there
        "resources.gpus_per_worker=1",
        "resources.micro_batch_size=5",
        "resources.activation_checkpointing=true",
    )
    economical = dataclasses.replace(context, plan=resolve_sweep(space), teacher=context.teacher.copy())
    assert economical.unlearning(SETTINGS).resources == space.resources
    seen, score = set(), ImageScorer.score

    def noted(self, *arguments, **options):
        seen.add((torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision))
        return score(self, *arguments, **options)

    monkeypatch.setattr(ImageScorer, "score", noted)
    report = TrialRunner(economical, SETTINGS, folder).advance(2)
    economical.evaluate_final(SETTINGS, folder, samples=60, forget_samples=40)
    assert seen == {("ieee", "ieee")}
    assert report.losses == pytest.approx(finished[1][0].losses, rel=1e-3)
    assert report.metrics == pytest.approx(finished[1][0].metrics, rel=0.01)


def test_a_judge_of_other_classes_than_the_teachers_is_refused(tmp_path):
    teacher = save_teacher(tmp_path / "teacher", tiny_model())
    space = digits_space(
        f"task.teacher={teacher}", "task.start=teacher", "task.forget=[ant]", "parameters.override=bee"
    )
    with pytest.raises(UserError, match="knows 10 classes, not 3"):
        TrialContext.build(resolve_sweep(space), None)


def test_a_trials_folder_is_called_by_its_number(tmp_path):
    sweep = Folder.open(tmp_path)
    assert trial_folder(sweep, 7).path == f"{tmp_path}/trials/0007"
    assert step_folder(trial_folder(sweep, 7), 60).path == f"{tmp_path}/trials/0007/step-000060"


def test_a_step_without_a_report_does_not_count(tmp_path):
    trial = Folder.open(tmp_path)
    step_folder(trial, 20).write(GRID, b"")
    for step in (1000000, 10):
        report = Report(step=step, metrics={}, samples={}, losses={}, seconds={})
        step_folder(trial, step).write(REPORT, report.to_json().encode())
    assert reported_steps(trial) == [10, 1000000]


def test_a_report_comes_back_from_json():
    report = Report(
        step=3, metrics={"fd_classifier": 0.1 + 0.2}, samples={"retained": 9}, losses={"generator": -1e-30}, seconds={}
    )
    assert Report.from_json(report.to_json()) == report


def test_the_null_baseline_unlearns_wholly_at_the_quality_of_its_start(context):
    swap = context.evaluate_swap(samples=600, forget_samples=200)
    start = context.evaluate(
        OneStepGenerator(context.start, context.plan.start.t_init), 1, samples=600, forget_samples=200, final=False
    )
    assert (swap.step, swap.samples) == (0, {"retained": 603, "forgotten": 200})
    assert swap.metrics["unlearning_accuracy"] == 1
    assert swap.metrics["fd_classifier"] == start.metrics["fd_classifier"]  # the same retained samples
    assert start.metrics["unlearning_accuracy"] < 0.1
    again = context.evaluate_swap(samples=600, forget_samples=200)
    assert (again.metrics, swap.metrics["override_distance"] < 20) == (swap.metrics, True)


def test_the_start_is_drawn_once_on_the_noise_of_the_trials(context, tmp_path):
    sweep, t_init = Folder.open(tmp_path), context.plan.start.t_init
    context.draw_start(sweep)
    start = OneStepGenerator(context.start, t_init)
    assert sweep.read(START_GRID) == context.evaluator.grid(start.generate, columns=grid_columns(start.image_shape))
    sweep.write(START_GRID, b"drawn before")
    context.draw_start(sweep)
    assert sweep.read(START_GRID) == b"drawn before"


def test_the_null_baseline_shows_the_override_for_the_same_noise(context):
    """Its samples of the forgotten class are those that the start makes of the override."""
    start = OneStepGenerator(context.start, context.plan.start.t_init)
    swap = swapped(start, {0: 1})
    zeros, ones = (generator.sample([label] * 4, seed=3) for generator, label in ((swap, 0), (start, 1)))
    torch.testing.assert_close(zeros, ones)


def test_the_null_baseline_takes_the_first_override_that_names_a_class():
    choices = "parameters.override={type: categorical, choices: [random, 7, 1]}"
    assert resolve_sweep(digits_space(choices)).swap_override == 7
    assert resolve_sweep(digits_space("parameters.override=random")).swap_override == "random"
    assert resolve_sweep(SPACE).has_swap
    assert not resolve_sweep(digits_space("task.start=teacher")).has_swap


def test_without_such_an_override_the_null_baseline_shows_the_first_retained_class():
    context = TrialContext.build(resolve_sweep(digits_space("parameters.override=random")), None)
    assert context.evaluate_swap(samples=60, forget_samples=40).metrics["override_rate"] == 1
