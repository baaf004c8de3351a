"""What every family must do, and what a new one costs: its module and an entry in FAMILIES."""

from types import SimpleNamespace
from typing import ClassVar

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from tiny_latent_models import save_dit
from tiny_models import NAMES, save_teacher, scheduler, tiny_model
from tiny_text_models import PROMPTS, save_stable_diffusion
from torch import nn
from update_cases import trainer

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models import families
from sfd_sweep.models.conditioning import CONDITION_KINDS, ClassLabels
from sfd_sweep.models.families import FAMILIES, find_family
from sfd_sweep.models.families.base import LabelConditional, Part
from sfd_sweep.models.families.dit import DiT
from sfd_sweep.models.families.stable_diffusion import StableDiffusion
from sfd_sweep.models.families.unet import UNet
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.score_model import ScoreModel

SAVED = {
    UNet: lambda folder: save_teacher(folder, tiny_model()),
    DiT: save_dit,
    StableDiffusion: save_stable_diffusion,
}


@pytest.fixture(params=[*SAVED], ids=lambda family: family.__name__)
def family(request):
    return request.param


@pytest.fixture(name="folder")
def _folder(family, tmp_path):
    return ModelFolder.open(str(SAVED[family](tmp_path / "teacher")))


def test_every_family_is_tested_here():
    assert [type(each) for each in FAMILIES] == [*SAVED]


def test_a_folder_is_of_one_family_and_says_which(family, folder):
    components = families.components_of(folder.index)
    assert type(folder.family) is family
    assert [type(each) for each in FAMILIES if not each.mismatches(components)] == [family]
    assert CONDITION_KINDS[folder.kind.task_kind] is folder.family.kind


def test_a_loaded_model_is_of_the_family_and_as_large_as_its_folder_says(family, folder):
    model = load_score_model(folder, prompts=PROMPTS)
    assert type(model.family) is family
    assert model.kind is folder.kind
    assert model.conditioning.names == (folder.class_names or PROMPTS)
    assert model.conditioning.null == len(model.conditioning.names)
    assert (model.sample_shape, model.image_shape) == (folder.sample_shape, folder.image_shape)
    assert folder.parameter_count == sum(weight.numel() for weight in model.parameters())
    embeddings = [row.numel() for row in model.conditioning.arguments(torch.tensor([0])).values()]
    assert sum(embeddings) == (folder.condition_size or 1)


def test_a_saved_teacher_is_one_that_stock_diffusers_names_and_comes_back(family, folder, tmp_path):
    model = load_score_model(folder, prompts=PROMPTS)
    save_score_model(model, tmp_path / "copy")
    copy = ModelFolder.open(str(tmp_path / "copy"))
    assert type(copy.family) is family
    assert hasattr(diffusers, copy.index["_class_name"])
    assert copy.parameter_counts == folder.parameter_counts
    x_t, t, c = torch.ones(2, *model.sample_shape), torch.tensor([440, 40]), torch.tensor([0, 2])
    found = load_score_model(copy, prompts=PROMPTS).forward(x_t, t, c).output
    assert torch.equal(found, model.forward(x_t, t, c).output)


def test_a_network_that_reads_nothing_of_its_condition_belongs_to_no_family(tmp_path):
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet1DModel"]}
    with pytest.raises(UserError, match=r"DDPMPipeline, which is not supported \(its unet is UNet1DModel\)"):
        find_family(tmp_path, index)


class TinyNetwork(ModelMixin, ConfigMixin):
    """A network that diffusers does not have: x̂_0 = W·x_t + e_c."""

    @register_to_config
    def __init__(self, sample_size: int = 4, in_channels: int = 1, out_channels: int = 1, labels: int = 4) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embedding = nn.Embedding(labels, out_channels)

    def forward(self, x_t, t, class_labels):
        return SimpleNamespace(sample=self.mix(x_t) + self.embedding(class_labels)[..., None, None])


class Tiny(LabelConditional):
    """A new family, as its own module would define it."""

    network_class = "TinyNetwork"
    component = "transformer"
    parts: ClassVar = {component: Part((network_class,))}
    description = "label-conditional TinyNetwork folders"
    teacher_index: ClassVar = {"_class_name": "DDPMPipeline"}
    classes_key = "labels"

    def label_embeddings(self, network):
        return [network.embedding.weight]


def test_a_new_family_trains_and_is_exported_without_another_change(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", (*FAMILIES, Tiny()))
    monkeypatch.setattr(diffusers, "TinyNetwork", TinyNetwork, raising=False)
    save_score_model(ScoreModel(TinyNetwork(), scheduler("sample"), ClassLabels(NAMES)), tmp_path / "teacher")
    teacher = load_score_model(ModelFolder.open(str(tmp_path / "teacher")))
    one = trainer(teacher, guidance_scale=1.5)
    assert one.update().generator.isfinite()
    one.ema_generator.save(tmp_path / "generator")
    images = OneStepGenerator.load(tmp_path / "generator").sample(["cow", 0], seed=3)
    assert torch.equal(images, one.ema_generator.sample(["cow", 0], seed=3))
    pipeline = DiffusionPipeline.from_pretrained(
        tmp_path / "generator", custom_pipeline=str(tmp_path / "generator"), trust_remote_code=True
    )
    again = pipeline(labels=["cow", 0], seeds=[3, 4], output_type="pt").images
    torch.testing.assert_close(again, images / 2 + 0.5, rtol=0, atol=1e-5)
