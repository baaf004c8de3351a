"""Score models written to diffusers folders and read back."""

import getpass
import os

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file
from tiny_models import FLOW, NULL, PREDICTION_TYPES, save_teacher, tiny_model

from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.weights import WEIGHTS


def load(folder):
    return load_score_model(ModelFolder.open(str(folder)))


@pytest.mark.parametrize("kind", [*PREDICTION_TYPES, FLOW])
def test_a_model_comes_back_bit_for_bit(tmp_path, kind):
    model = tiny_model(kind)
    copy = load(save_teacher(tmp_path / "teacher", model))
    assert copy.prediction_type == ("v_prediction" if kind == FLOW else kind)
    assert copy.conditioning.null == NULL
    for name, table in model.schedule.named_buffers():
        assert torch.equal(dict(copy.schedule.named_buffers())[name], table), name
    for name, weight in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], weight), name


def test_diffusers_reads_the_same_network(tmp_path):
    model = tiny_model()
    save_teacher(tmp_path / "teacher", model)
    network = UNet2DModel.from_pretrained(tmp_path / "teacher" / "unet", low_cpu_mem_usage=False)
    x_t, t, c = torch.ones(1, 1, 4, 4), torch.tensor([440]), torch.tensor([1])
    mine, theirs = model.network.state_dict(), network.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    # diffusers leaves the weights in the file's pages, where another alignment means other sums.
    torch.testing.assert_close(
        network(x_t, t, class_labels=c).sample, model.network(x_t, t, class_labels=c).sample, rtol=1e-5, atol=1e-6
    )


def test_a_schedule_that_clips_is_loaded_without_clipping(tmp_path):
    """Clipping is for samplers of many steps; a one-step generator's images are the network's own."""
    model = tiny_model()
    model.scheduler.register_to_config(clip_sample=True)
    assert load(save_teacher(tmp_path / "teacher", model)).scheduler.config.clip_sample is False


def test_half_precision_on_disk_is_single_precision_in_memory(tmp_path):
    model = tiny_model()
    save_score_model(model, tmp_path / "half", index={}, dtype=torch.float16)
    assert load_file(tmp_path / "half" / "unet" / WEIGHTS)["conv_in.weight"].dtype == torch.float16
    copy = load(tmp_path / "half")
    for name, weight in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], weight.half().float()), name
    assert model.network.conv_in.weight.dtype == torch.float32


def test_saving_replaces_a_folder_whole(tmp_path):
    target = save_teacher(tmp_path / "teacher", tiny_model(seed=0))
    (target / "left-over.txt").write_text("of the earlier one")
    save_teacher(target, tiny_model(seed=1))
    assert not (target / "left-over.txt").exists()
    assert torch.equal(load(target).network.conv_in.weight, tiny_model(seed=1).network.conv_in.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_a_save_that_fails_leaves_the_earlier_folder_as_it_was(tmp_path, monkeypatch):
    target = save_teacher(tmp_path / "teacher", tiny_model(seed=0))
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}

    def full_disk(self, folder, **options):
        folder.mkdir(parents=True)
        raise OSError("no space left on device")

    monkeypatch.setattr(UNet2DModel, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_teacher(target, tiny_model(seed=1))
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_the_files_tell_nothing_of_the_machine_that_wrote_them(tmp_path):
    first = save_teacher(tmp_path / "first", tiny_model())
    second = tmp_path / "second"
    model = load(first)
    model.network.register_to_config(_name_or_path=str(first))
    save_teacher(second, model)
    private = [str(tmp_path), os.path.expanduser("~/"), f"/{getpass.getuser()}/"]  # noqa: PTH111
    texts = [path.read_text() for path in second.rglob("*.json")]
    assert len(texts) == 3
    assert not [word for word in private for text in texts if word in text]
