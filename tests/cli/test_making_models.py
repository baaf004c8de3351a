"""Commands that make models and pictures, in a few steps."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from photographs import encode, photographs, write_parquet
from PIL import Image
from safetensors.torch import load_file

from sfd_sweep.cli import making, training
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ASSETS, ModelFolder
from sfd_sweep.models.weights import WEIGHTS
from sfd_sweep.teachers.pretraining import STATE


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def figure(out: str) -> float:
    found = re.search(r"fd_classifier ([\d.e+]+) on 2,000 samples", out)
    assert found
    return float(found[1])


def test_a_pretrained_teacher_is_a_folder_like_the_shipped_one_with_its_distance(command, folder):
    said = command("pretrain", "builtin:digits", "--out", "teacher", "--steps", "30")
    assert (said.code, said.err) == (0, "")
    assert figure(said.out) > 10  # 30 steps are nothing
    assert files(folder / "teacher") == files(ASSETS / "digits" / "teacher")
    made, shipped = ModelFolder.open("teacher"), ModelFolder.open("builtin:digits")
    assert (made.index, made.network, made.prediction_type) == (shipped.index, shipped.network, shipped.prediction_type)
    size = "unet/diffusion_pytorch_model.safetensors"
    assert (made.path / size).stat().st_size == (shipped.path / size).stat().st_size


SMALL = ("--preset", "small-cifar10", "--set", "channels=[8,16]", "--set", "attention_head_dim=16", "--steps", "2")


def test_a_teacher_of_photographs_is_looked_at_in_a_picture(command, folder):
    photographs(folder / "images", count=16, size=40)
    said = command("pretrain", "images", "--out", "teacher", *SMALL, "--set", "image_size=16", "--grid", "grid.png")
    assert (said.code, said.err) == (0, "")
    made = ModelFolder.open("teacher")
    assert (made.class_names, made.sample_shape) == (("china", "flower"), (3, 16, 16))
    assert said.out.startswith(f"teacher: a teacher of 2 classes with {made.parameter_count:,} weights\n")
    assert load_file(made.path / "unet" / WEIGHTS)["conv_in.weight"].dtype == torch.float32
    with Image.open("grid.png") as picture:
        assert picture.width > 10 * 32
    assert files(folder)[0] == "grid.png"


def test_photographs_are_brought_to_the_presets_size(command, folder):
    photographs(folder / "images", count=16, size=40)
    assert command("pretrain", "images", "--out", "teacher", *SMALL).code == 0
    assert ModelFolder.open("teacher").sample_shape == (3, 32, 32)


def test_classes_without_names_in_the_files_get_them_from_the_user(command, folder):
    images = [encode(np.full((16, 16, 3), shade, np.uint8)) for shade in range(0, 240, 12)]
    write_parquet(folder / "images" / "train.parquet", images, [0, 1] * 10)
    named = ("--class-names", "night, day")
    assert command("pretrain", "images", "--out", "teacher", *SMALL, *named).code == 0
    assert command("train-classifier", "images", "--out", "judge", "--epochs", "1", *named).code == 0
    assert ModelFolder.open("teacher").class_names == load_classifier("judge").class_names == ("night", "day")


@pytest.mark.parametrize("make", ["pretrain", "train-classifier"])
def test_names_that_are_too_few_or_the_same_are_refused(command, folder, make):
    images = [encode(np.zeros((16, 16, 3), np.uint8))] * 3
    write_parquet(folder / "images" / "train.parquet", images, [0, 1, 2])
    for names, words in (("a,b", "labels up to 2"), ("a,a,b", "every class needs a name of its own")):
        said = command(make, "images", "--out", "model", "--class-names", names)
        assert said.code == 2
        assert words in said.err
    assert not (folder / "model").exists()


def test_a_teacher_that_the_judge_cannot_see_is_refused_before_it_is_trained(command, folder):
    photographs(folder / "images", count=16, size=16)
    arguments = ("pretrain", "images", "--out", "teacher", *SMALL, "--classifier", "builtin:digits")
    said = command(*arguments)
    assert said.code == 2
    assert "--no-judge" in said.err
    assert not (folder / "teacher").exists()
    assert command(*arguments, "--no-judge").code == 0


def test_without_a_terminal_progress_comes_in_lines(command, folder, monkeypatch):
    monkeypatch.setattr(making, "SECONDS_BETWEEN_LINES", 0.0)
    said = command("pretrain", "builtin:digits", "--out", "teacher", "--steps", "20", "--no-judge")
    assert said.code == 0
    assert re.fullmatch(r"(pretraining, loss [\d.]+: (10|20) of 20\n){2}", said.err)
    assert said.out.startswith("teacher: a teacher of 10 classes")


@pytest.mark.slow
def test_a_pretraining_that_was_killed_goes_on_and_ends_as_if_nothing_had_been(command, folder):
    options = ["builtin:digits", "--steps", "400", "--save-every", "20", "--set", "channels=[8,8]", "--resume"]
    killed = subprocess.Popen([sys.executable, "-m", "sfd_sweep", "pretrain", *options, "--out", "killed"])
    state = folder / "killed.pretraining" / STATE
    while not state.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert command("pretrain", *options[:-1], "--out", "killed").code == 2  # without --resume
    for name in ("killed", "whole"):
        assert command("pretrain", *options, "--out", name).code == 0
    weights = [(folder / name / "unet" / WEIGHTS).read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in folder.iterdir()) == ["killed", "whole"]


def test_a_distilled_generator_is_a_folder_like_the_shipped_one_with_its_distance(command, folder):
    said = command("distill", "builtin:digits", "--out", "generator", "--steps", "3")
    assert (said.code, said.err) == (0, "")
    assert 1 < figure(said.out) < 100
    assert files(folder / "generator") == files(ASSETS / "digits" / "generator")
    assert OneStepGenerator.load("generator").t_init == 440


def test_a_generator_may_be_replaced_by_force_and_go_unjudged(command, folder):
    said = command("distill", "builtin:digits", "--out", "generator", "--steps", "1", "--no-judge", "--t-init", "300")
    assert "fd_classifier" not in said.out
    assert command("distill", "builtin:digits", "--out", "generator", "--steps", "1", "--no-judge", "--force").code == 0
    assert OneStepGenerator.load("generator").t_init == 440
    assert [path.name for path in folder.iterdir()] == ["generator"]


def test_a_classifier_of_photographs_knows_their_names(command, folder):
    photographs(folder / "images", count=16, size=16)
    assert command("train-classifier", "images", "--out", "judge", "--epochs", "1").code == 0
    assert load_classifier("judge").class_names == ("china", "flower")


def test_a_classifier_is_a_folder_like_the_shipped_one_with_its_accuracy(command, folder):
    said = command("train-classifier", "builtin:digits", "--out", "judge", "--epochs", "1")
    accuracy = load_classifier("judge").config.held_out_accuracy
    assert accuracy is not None
    assert f"{accuracy:.2%} of the held-out images" in said.out
    assert files(folder / "judge") == files(ASSETS / "digits" / "classifier")


def test_a_classifier_is_trained_as_the_preset_and_the_options_say(command, folder):
    options = (
        "--preset",
        "cifar-resnet-small",
        "--epochs",
        "1",
        "--batch-size",
        "200",
        "--lr",
        "0.01",
        "--device",
        "cpu",
    )
    said = command("train-classifier", "builtin:digits", "--out", "judge", *options)
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("(cifar-resnet-small)\n")
    assert load_classifier("judge").config.architecture == "resnet"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pretrained"], "--pretrained is for --preset resnet34-224; digits has no ImageNet weights"),
        (["--device", "cuda"], "--device cuda: torch finds no GPU here"),
        (["--lr", "1e30", "--epochs", "1"], "the training diverged"),
    ],
)
def test_a_classifier_that_cannot_be_trained_so_leaves_nothing_behind(command, folder, options, words):
    said = command("train-classifier", "builtin:digits", "--out", "judge", *options)
    assert said.code == 2
    assert words in said.err
    assert not (folder / "judge").exists()


def test_the_presets_on_the_command_line_are_those_that_there_are():
    from sfd_sweep.teachers.classifier_presets import PRESETS

    assert [preset.value for preset in training.ClassifierPreset] == list(PRESETS)


def test_a_teacher_of_classes_that_the_judge_does_not_know_is_refused_before_it_is_distilled(command, folder):
    from tiny_models import save_teacher, tiny_model

    save_teacher(folder / "tiny", tiny_model())
    said = command("distill", "tiny", "--out", "generator")
    assert said.code == 2
    assert "--no-judge" in said.err
    assert not (folder / "generator").exists()


def test_one_thread_is_used_unless_the_user_says_otherwise(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        training.one_thread()
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        training.one_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("labels", "count", "rows", "columns"), [(["3"], 64, 4, 16), (["0", "3"], 10, 2, 10), ([], 2, 10, 2)]
)
def test_a_sample_is_a_picture_with_the_rows_that_were_asked_for(command, folder, labels, count, rows, columns):
    chosen = [word for label in labels for word in ("--label", label)]
    said = command("sample", "builtin:digits-distilled", *chosen, "--count", str(count), "--out", "grid.png")
    assert said.out.startswith(f"{count * (len(labels) or 10)} images of ")
    tile = 8 * 4 + 4
    with Image.open("grid.png") as picture:
        assert columns * tile < picture.width < columns * tile + 60
        assert picture.height == rows * (tile + 2) + 16


def test_a_sample_depends_on_its_seed_alone(command, folder):
    def picture(seed: str) -> bytes:
        command("sample", "builtin:digits-distilled", "--count", "4", "--seed", seed, "--out", "grid.png")
        return (folder / "grid.png").read_bytes()

    first = picture("7")
    assert picture("8") != first
    assert picture("7") == first


def test_evaluate_measures_any_generator_if_it_is_told_what_was_forgotten(command, folder):
    arguments = ["evaluate", "builtin:digits-distilled", "--forget", "0", "--override", "1", "--samples", "90"]
    said = command(*arguments, "--forget-samples", "50", "--format", "json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["samples"] == {"retained": 90, "forgotten": 50}
    assert found["metrics"]["unlearning_accuracy"] < 0.1  # nothing was forgotten


@pytest.mark.parametrize(
    ("overrides", "same"), [(["2"], ["2", "2"]), (["random"], ["random"]), (["classifier"], ["random"])]
)
def test_evaluate_takes_an_override_for_all_or_for_each_of_several_forgotten_classes(command, folder, overrides, same):
    def figures(words):
        given = [word for override in words for word in ("--override", override)]
        forgotten = ["--forget", "0", "--forget", "1", "--samples", "80", "--forget-samples", "40"]
        said = command("evaluate", "builtin:digits-distilled", *forgotten, *given, "--format", "json")
        assert (said.code, said.err) == (0, "")
        return json.loads(said.out)

    found = figures(overrides)
    assert found == figures(same)
    assert found["samples"] == {"retained": 80, "forgotten": 40}
    assert found != figures(["2", "3"])
