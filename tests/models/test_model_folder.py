"""Folders that are no model, told in one line before anything is loaded."""

import json
import socket
import time

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import NAMES, save_teacher, tiny_model

from sfd_sweep import hub
from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import BUILTIN_MODELS, ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.weights import WEIGHTS


@pytest.fixture(name="teacher")
def _teacher(tmp_path):
    return save_teacher(tmp_path / "teacher", tiny_model())


def change(path, **entries):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**content, **entries}.items() if value is not None}))


def refusal(source) -> str:
    with pytest.raises(UserError) as raised:
        load_score_model(ModelFolder.open(str(source)))
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_folder_says_what_is_inside(teacher):
    folder = ModelFolder.open(str(teacher))
    assert folder.class_names == NAMES
    assert folder.null_label == 3
    assert folder.prediction_type == "v_prediction"
    assert folder.diffusion_steps == 1000
    assert folder.sample_shape == (1, 4, 4)
    assert folder.t_init is None
    assert folder.parameter_count == sum(parameter.numel() for parameter in tiny_model().parameters())


def test_a_network_without_a_spare_embedding_has_no_null_label(tmp_path):
    folder = save_teacher(tmp_path / "teacher", tiny_model(null_label=False))
    assert ModelFolder.open(str(folder)).null_label is None


@pytest.mark.parametrize("source", sorted(BUILTIN_MODELS))
def test_a_shipped_model_is_whole(source):
    folder = ModelFolder.open(source)
    assert folder.class_names == tuple("0123456789")
    assert folder.null_label == 10
    assert load_score_model(folder).sample_shape == (1, 8, 8)


def test_an_unknown_shipped_model_is_refused_with_those_that_there_are():
    assert "builtin:digits-distilled" in refusal("builtin:cats")


def test_a_missing_folder_is_refused(tmp_path):
    assert "no model folder" in refusal(tmp_path / "nothing")


def test_a_hub_that_cannot_be_found_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.invalid")
    message = refusal("nobody/nothing")
    assert "'nobody/nothing' is no folder here" in message


def test_a_hub_that_never_answers_is_given_up_soon(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "TIMEOUT", 0.3)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert "check the name and the network" in refusal("nobody/nothing")
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_description_is_named(teacher, name):
    (teacher / name).unlink()
    assert f"{teacher / name} is missing" in refusal(teacher)


def test_missing_weights_are_named(teacher):
    (teacher / "unet" / WEIGHTS).unlink()
    assert f"{WEIGHTS} is missing" in refusal(teacher)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_a_description_that_is_no_json_object_is_named(teacher, content):
    (teacher / "unet" / "config.json").write_bytes(content)
    assert str(teacher / "unet" / "config.json") in refusal(teacher)


@pytest.mark.parametrize(
    ("file", "entries", "words"),
    [
        ("unet/config.json", {"num_class_embeds": None}, "no label-conditional UNet2DModel"),
        ("unet/config.json", {"num_class_embeds": "3"}, "num_class_embeds is 3"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "it is UNet2DConditionModel"),
        ("unet/config.json", {"_class_name": "DiTTransformer2DModel"}, "it is DiTTransformer2DModel"),
        ("unet/config.json", {"in_channels": 4, "out_channels": 4}, "4 channels, which are no image"),
        ("unet/config.json", {"out_channels": 3}, "out_channels must be in_channels (1), or twice that"),
        (
            "model_index.json",
            {"unet": ["diffusers", "UNet2DConditionModel"]},
            "is a DDPMPipeline, which is not supported",
        ),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "text-to-image"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "(it has a vqvae)"),
        ("model_index.json", {"unet": None}, "(its unet is missing)"),
        ("model_index.json", {"transformer": ["diffusers", "DiTTransformer2DModel"]}, "(it has a transformer)"),
        ("unet/config.json", {"num_class_embeds": 6}, "embeds 6"),
        ("unet/config.json", {"sample_size": [4, 8]}, "sample_size"),
        ("model_index.json", {"id2label": None}, "id2label"),
        ("model_index.json", {"id2label": {}}, "id2label"),
        ("model_index.json", {"id2label": {"0": "ant", "2": "cow"}}, "every index"),
        ("model_index.json", {"id2label": ["ant", "bee", "cow"]}, "id2label"),
        ("model_index.json", {"t_init": 1000}, "t_init must be a step of the schedule, 0 to 999, not 1000"),
        ("model_index.json", {"t_init": "early"}, "not 'early'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "score"}, "'score' is none of epsilon"),
        ("scheduler/scheduler_config.json", {"beta_schedule": None}, "DDPMScheduler has beta_schedule None"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(teacher, file, entries, words):
    change(teacher / file, **entries)
    assert words in refusal(teacher)


def test_weights_that_are_cut_short_are_refused(teacher):
    path = teacher / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:5000])
    assert "no whole safetensors file" in refusal(teacher)


def test_weights_of_another_shape_are_refused(teacher):
    change(teacher / "unet" / "config.json", block_out_channels=[16, 16])
    assert "size mismatch" in refusal(teacher)


def test_a_weight_that_is_missing_in_the_file_is_not_made_up(teacher):
    path = teacher / "unet" / WEIGHTS
    weights = load_file(path)
    del weights["conv_out.bias"]
    save_file(weights, path)
    assert "conv_out.bias" in refusal(teacher)
