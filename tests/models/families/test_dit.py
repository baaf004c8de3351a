"""Folders of diffusion transformers that work on latents: read, loaded, and sampled as diffusers does."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline
from safetensors.torch import load_file
from tiny_latent_models import IMAGE_SHAPE, LATENT_SHAPE, save_dit, tiny_latent_model, tiny_transformer, tiny_vae
from tiny_models import CLASSES, NAMES, NULL

from sfd_sweep.errors import UserError
from sfd_sweep.models.families import base
from sfd_sweep.models.families.base import LatentDecoder
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.models.weights import OLD_WEIGHTS, WEIGHTS


@pytest.fixture(name="teacher")
def _teacher(tmp_path):
    return save_dit(tmp_path / "teacher")


def load(folder):
    return load_score_model(ModelFolder.open(str(folder)))


def change(path, **entries):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**content, **entries}.items() if value is not None}))


def batch(n=6):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, *LATENT_SHAPE, generator=generator),
        torch.randint(38, 712, (n,), generator=generator),
        torch.randint(CLASSES + 1, (n,), generator=generator),
    )


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_folder_says_what_is_inside(teacher):
    folder = ModelFolder.open(str(teacher))
    assert folder.class_names == NAMES
    assert folder.null_label == NULL
    assert folder.prediction_type == "epsilon"
    assert (folder.sample_shape, folder.image_shape) == (LATENT_SHAPE, IMAGE_SHAPE)
    assert (folder.parameter_count, folder.decoder_parameter_count) == (size(tiny_transformer()), size(tiny_vae()))


def test_a_loaded_model_has_the_shapes_that_its_folder_says_and_makes_such_images(teacher):
    folder, model = ModelFolder.open(str(teacher)), load(teacher)
    assert (model.sample_shape, model.image_shape) == (folder.sample_shape, folder.image_shape)
    assert model.decode(torch.zeros(5, *model.sample_shape)).shape == (5, *folder.image_shape)


def test_noise_is_mixed_in_as_the_folders_own_scheduler_says(teacher):
    published = DDIMScheduler.from_pretrained(teacher / "scheduler")
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(published.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4, atol=0)
    model = load(teacher)
    assert torch.equal(model.scheduler.alphas_cumprod, published.alphas_cumprod)
    assert torch.equal(model.schedule.alphas, published.alphas_cumprod.double().sqrt().float())


@torch.no_grad()
def test_the_predicted_noise_is_the_first_half_of_what_the_transformer_puts_out(teacher):
    x_t, t, c = batch()
    prediction = load(teacher).forward(x_t, t, c)
    output = DiTPipeline.from_pretrained(teacher, low_cpu_mem_usage=False).transformer(x_t, t, class_labels=c).sample
    assert output.shape == (6, 8, 4, 4)
    assert torch.equal(prediction.epsilon, output[:, :4])
    assert prediction.x_0.shape == x_t.shape


@torch.no_grad()
def test_the_learned_variance_has_no_influence():
    """The last layer puts out patches with the channel as last index: 0 to 3 are the noise, 4 to 7 its variance."""
    x_t, t, c = batch()
    model = tiny_latent_model()
    before = model.guided(x_t, t, c, 2.0).x_0
    channel = torch.arange(len(model.network.proj_out_2.bias)) % 8
    model.network.proj_out_2.bias[channel >= 4] += 100
    assert torch.equal(model.guided(x_t, t, c, 2.0).x_0, before)
    model.network.proj_out_2.bias[channel == 3] += 1
    changed = (model.guided(x_t, t, c, 2.0).x_0 != before).flatten(2).any(2)
    assert changed.tolist() == [[False, False, False, True]] * 6


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_ddim_is_that_of_diffusers_own_pipeline(tmp_path, scale):
    """With a thousand classes, as that pipeline takes index 1000 for the null label."""
    folder = save_dit(tmp_path / "teacher", [f"class {index}" for index in range(1000)], vae=tiny_vae(seed=3))
    c = [7, 207, 999]
    images = sample_ddim(load(folder), torch.tensor(c), torch.Generator().manual_seed(0), steps=6, guidance_scale=scale)
    pipeline = DiTPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    expected = pipeline(
        c,
        guidance_scale=scale,
        generator=torch.Generator().manual_seed(0),
        num_inference_steps=6,
        output_type="pt",
    ).images
    torch.testing.assert_close(images / 2 + 0.5, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05


@pytest.mark.parametrize(("shift", "added"), [(None, 0.0), (0.25, 0.25)])
@torch.no_grad()
def test_latents_are_unscaled_and_then_decoded(shift, added):
    vae = tiny_vae(scaling_factor=0.5, shift_factor=shift)
    latents = batch()[0]
    images = LatentDecoder(vae)(latents)
    torch.testing.assert_close(images, vae.decode(2 * latents + added).sample)
    assert images.shape == (6, *IMAGE_SHAPE)


@torch.no_grad()
def test_many_latents_are_decoded_some_at_a_time(monkeypatch):
    model, latents = tiny_latent_model(), batch(7)[0]
    whole, sizes = model.decode(latents), []
    decode = model.decoder.vae.decode

    def counted(part):
        sizes.append(len(part))
        return decode(part)

    monkeypatch.setattr(model.decoder.vae, "decode", counted)
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 3 * 8 * 8)
    torch.testing.assert_close(model.decode(latents), whole)
    assert sizes == [3, 3, 1]
    sizes.clear()
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 1)
    model.decode(latents)
    assert sizes == [1] * 7


def test_a_copy_is_independent_but_for_the_autoencoder(teacher):
    model = load(teacher)
    copy = model.copy()
    before = model.forward(*batch()).output
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    assert torch.equal(model.forward(*batch()).output, before)
    assert not torch.equal(copy.forward(*batch()).output, before)
    assert copy.decoder is model.decoder


def test_the_autoencoder_is_no_part_of_what_is_trained_or_saved_with_a_training_state(teacher):
    model = load(teacher)
    assert size(model) == size(tiny_transformer())
    assert all(name.startswith("network.") for name in model.state_dict())
    model.requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in model.decoder.vae.parameters())


def test_classes_are_never_dropped():
    model = tiny_latent_model()
    assert not any(module.training for module in model.modules())
    x_t, t = batch(64)[0], torch.full((64,), 440)
    first, second = (model.forward(x_t, t, torch.zeros_like(t)).output for _ in range(2))
    assert torch.equal(first, second)
    network = model.network.train()  # drops one in ten
    assert not torch.equal(network(x_t, t, class_labels=torch.zeros_like(t)).sample[:, :4], first)


def test_the_gradient_flows_through_the_transformer_into_the_noisy_latent():
    """Against a difference quotient along a random direction, in double precision."""
    model = tiny_latent_model().double()
    x_t, t, c = batch()
    x_t = x_t.double().requires_grad_(True)
    direction = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(at):
        return model.guided(at, t, c, 2.0).x_0.square().sum()

    (gradient,) = torch.autograd.grad(loss(x_t), x_t)
    with torch.no_grad():
        slope = (loss(x_t + 1e-5 * direction) - loss(x_t - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=0)


def test_a_model_comes_back_bit_for_bit_with_its_autoencoder(teacher, tmp_path):
    model = load(teacher)
    save_score_model(model, tmp_path / "copy", index={"_class_name": "DiTPipeline"})
    copy = load(tmp_path / "copy")
    for first, second in ((model, copy), (model.decoder.vae, copy.decoder.vae)):
        for name, weight in first.state_dict().items():
            assert torch.equal(second.state_dict()[name], weight), name
    DiTPipeline.from_pretrained(tmp_path / "copy", low_cpu_mem_usage=False)


def test_half_precision_on_disk_leaves_the_shared_autoencoder_as_it_is(teacher, tmp_path):
    model = load(teacher)
    save_score_model(model, tmp_path / "half", index={}, dtype=torch.float16)
    for component in ("transformer", "vae"):
        assert {weight.dtype for weight in load_file(tmp_path / "half" / component / WEIGHTS).values()} == {
            torch.float16
        }
    assert {weight.dtype for weight in model.decoder.vae.parameters()} == {torch.float32}
    assert {weight.dtype for weight in load(tmp_path / "half").decoder.vae.parameters()} == {torch.float32}


OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def as_published_in_2022(folder: Path) -> None:
    """The class's old name, weights in pickle files, and the old names of the autoencoder's attention."""
    change(folder / "transformer" / "config.json", _class_name="Transformer2DModel", num_vector_embeds=0)
    change(folder / "model_index.json", transformer=["diffusers", "Transformer2DModel"])
    for component in ("transformer", "vae"):
        weights = load_file(folder / component / WEIGHTS)
        if component == "vae":
            for new, old in OLD_ATTENTION.items():
                weights = {name.replace(f".0.{new}.", f".0.{old}."): weight for name, weight in weights.items()}
        torch.save(weights, folder / component / OLD_WEIGHTS)
        (folder / component / WEIGHTS).unlink()


def test_a_folder_of_2022_is_the_same_model(teacher, tmp_path):
    old = save_dit(tmp_path / "old")
    as_published_in_2022(old)
    first, second = load(teacher), load(old)
    assert torch.equal(first.forward(*batch()).output, second.forward(*batch()).output)
    assert torch.equal(first.decode(batch()[0]), second.decode(batch()[0]))
    counts = [
        (folder.parameter_count, folder.decoder_parameter_count)
        for folder in (ModelFolder.open(str(path)) for path in (teacher, old))
    ]
    assert counts[0] == counts[1]


class Trap:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["code", "cut short", "empty"])
def test_a_pickle_file_that_is_more_or_less_than_tensors_is_refused_and_not_run(teacher, tmp_path, damage):
    as_published_in_2022(teacher)
    weights = teacher / "transformer" / OLD_WEIGHTS
    content = {
        "code": pickle.dumps(Trap(tmp_path / "was-run"), protocol=2),
        "cut short": weights.read_bytes()[:20_000],
        "empty": b"",
    }
    weights.write_bytes(content[damage])
    with pytest.raises(UserError, match=f"{weights} is no whole file of tensors") as raised:
        load(teacher)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("file", "entries", "words"),
    [
        ("transformer/config.json", {"_class_name": "PixArtTransformer2DModel"}, "it is PixArtTransformer2DModel"),
        (
            "transformer/config.json",
            {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single"},
            "it is Transformer2DModel with norm_type ada_norm_single",
        ),
        ("transformer/config.json", {"num_embeds_ada_norm": None}, "num_embeds_ada_norm is None"),
        ("transformer/config.json", {"num_embeds_ada_norm": 2}, "names 3 classes, but the network embeds 3"),
        ("transformer/config.json", {"num_embeds_ada_norm": 5}, "but the network embeds 6"),
        ("transformer/config.json", {"out_channels": 12}, "out_channels must be in_channels (4), or twice that"),
        ("transformer/config.json", {"num_layers": 40}, "Missing key(s) in state_dict"),
        ("transformer/config.json", {"num_layers": 1}, "Unexpected key(s) in state_dict"),
        ("vae/config.json", {"_class_name": "VQModel"}, "vae must be an AutoencoderKL of the 4 latent channels"),
        ("vae/config.json", {"latent_channels": 16}, "with latent_channels 16"),
        ("vae/config.json", {"block_out_channels": [8, 16]}, "vae: the weights do not fit config.json"),
        ("model_index.json", {"vae": None}, "transformer works on 4 channels, which are no image"),
        (
            "model_index.json",
            {"text_encoder_2": ["transformers", "T5EncoderModel"]},
            "is a DiTPipeline, which is not supported",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchLCMScheduler", "beta_schedule": None},
            "FlowMatchLCMScheduler has beta_schedule None",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_refused(teacher, file, entries, words):
    change(teacher / file, **entries)
    with pytest.raises(UserError) as raised:
        load(teacher)
    message = str(raised.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("file", ["transformer/config.json", "vae/config.json", f"vae/{WEIGHTS}"])
def test_a_part_that_is_missing_is_named(teacher, file):
    (teacher / file).unlink()
    with pytest.raises(UserError, match=f"{teacher / file} is missing"):
        load(teacher)


def test_a_variance_that_a_scheduler_expects_to_be_learned_is_left_out_too(teacher):
    """Images are predictions alone, so that a generator's pipeline needs no variance either."""
    expected = load(teacher).forward(*batch()).x_0
    change(teacher / "scheduler" / "scheduler_config.json", _class_name="DDPMScheduler", variance_type="learned_range")
    model = load(teacher)
    assert model.scheduler.config.variance_type == "fixed_small"
    assert torch.equal(model.forward(*batch()).x_0, expected)
