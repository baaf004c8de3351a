"""Folders of Stable Diffusion: read, loaded, and sampled as diffusers does."""

import json
import sys

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tiny_latent_models import IMAGE_SHAPE, LATENT_SHAPE
from tiny_text_models import PROMPTS, TOKENS, WIDTH, save_stable_diffusion

from sfd_sweep.errors import UserError
from sfd_sweep.models import conditioning
from sfd_sweep.models.families import stable_diffusion
from sfd_sweep.models.families.stable_diffusion import Prompts
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.samplers import sample_ddim

KINDS = ("epsilon", "v_prediction")  # 1.x and 2.x
STABLE_DIFFUSION = {
    "_class_name": "StableDiffusionPipeline",
    "requires_safety_checker": False,
    **{part: [None, None] for part in ("safety_checker", "feature_extractor", "image_encoder")},
}


@pytest.fixture(scope="module", name="published")
def _published(tmp_path_factory):
    """A folder of each kind, not to be changed."""
    folder = tmp_path_factory.mktemp("published")
    return {kind: save_stable_diffusion(folder / kind, kind) for kind in KINDS}


@pytest.fixture(name="teacher")
def _teacher(tmp_path):
    return save_stable_diffusion(tmp_path / "teacher")


def load(folder, prompts=PROMPTS):
    return load_score_model(ModelFolder.open(str(folder)), prompts=prompts)


def pipeline_of(folder):
    return StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)


def change(path, **entries):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**content, **entries}.items() if value is not None}))


def batch(n=8):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, *LATENT_SHAPE, generator=generator),
        torch.randint(20, 980, (n,), generator=generator),
        torch.arange(n) % (len(PROMPTS) + 1),
    )


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_says_what_is_inside(published, kind):
    folder, pipeline = ModelFolder.open(str(published[kind])), pipeline_of(published[kind])
    assert folder.kind is conditioning.PROMPTS
    assert folder.prediction_type == kind
    assert folder.class_names == ()
    assert (folder.sample_shape, folder.image_shape) == (LATENT_SHAPE, IMAGE_SHAPE)
    counts = [folder.parameter_counts[part] for part in ("unet", "vae", "text_encoder")]
    assert counts == [size(pipeline.unet), size(pipeline.vae), size(pipeline.text_encoder)]


def test_prompts_are_embedded_as_stable_diffusion_does_and_the_last_is_the_empty_one(published):
    model = load(published["epsilon"])
    expected, null = pipeline_of(published["epsilon"]).encode_prompt(list(PROMPTS), "cpu", 1, True)
    assert model.conditioning.null == len(PROMPTS)
    embeddings = model.conditioning.embeddings[torch.arange(len(PROMPTS) + 1)]
    assert embeddings.shape == (len(PROMPTS) + 1, TOKENS, WIDTH)
    torch.testing.assert_close(embeddings, torch.cat([expected, null[:1]]), rtol=0, atol=1e-5)
    assert (embeddings[0] - embeddings[1]).abs().max() > 0.01


def test_what_a_prompt_becomes_does_not_hang_on_the_others(published):
    model = load(published["epsilon"])
    alone = load(published["epsilon"], ["cow"])
    assert torch.equal(
        alone.conditioning.embeddings[torch.tensor([0, 1])], model.conditioning.embeddings[torch.tensor([2, 3])]
    )


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_predictions_are_the_networks_for_the_prompt_of_that_index(published, kind):
    x_t, t, c = batch()
    model, pipeline = load(published[kind]), pipeline_of(published[kind])
    states = pipeline.encode_prompt([[*PROMPTS, ""][index] for index in c.tolist()], "cpu", 1, False)[0]
    expected = pipeline.unet(x_t, t, encoder_hidden_states=states).sample
    prediction = model.forward(x_t, t, c)
    torch.testing.assert_close(prediction.output, expected, rtol=0, atol=1e-5)
    a = pipeline.scheduler.alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
    b = (1 - a.square()).sqrt()
    x_0 = (x_t - b * expected) / a if kind == "epsilon" else a * x_t - b * expected
    torch.testing.assert_close(prediction.x_0, x_0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_ddim_is_that_of_diffusers_own_pipeline(published, kind, scale):
    model, pipeline = load(published[kind]), pipeline_of(published[kind])
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        [PROMPTS[0], PROMPTS[2], PROMPTS[1]],
        guidance_scale=scale,
        height=8,
        width=8,
        num_inference_steps=6,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    c = torch.tensor([0, 2, 1])
    images = sample_ddim(model, c, torch.Generator().manual_seed(0), steps=6, guidance_scale=scale)
    torch.testing.assert_close(images / 2 + 0.5, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_one_that_diffusers_loads_and_comes_back_bit_for_bit(published, tmp_path, kind):
    model = load(published[kind])
    save_score_model(model, tmp_path / "copy", index=STABLE_DIFFUSION)
    copy = load(tmp_path / "copy")
    assert torch.equal(copy.forward(*batch()).output, model.forward(*batch()).output)
    assert torch.equal(copy.decode(batch()[0]), model.decode(batch()[0]))
    first, second = pipeline_of(published[kind]), pipeline_of(tmp_path / "copy")
    for component in ("unet", "vae", "text_encoder"):
        weights = getattr(second, component).state_dict()
        for name, weight in getattr(first, component).state_dict().items():
            assert torch.equal(weights[name], weight), name
    assert second.tokenizer(PROMPTS[1]).input_ids == first.tokenizer(PROMPTS[1]).input_ids


def test_half_precision_on_disk_leaves_the_shared_text_encoder_as_it_is(teacher, tmp_path):
    model = load(teacher)
    save_score_model(model, tmp_path / "half", index=STABLE_DIFFUSION, dtype=torch.float16)
    weights = load_file(tmp_path / "half" / "text_encoder" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert {weight.dtype for weight in model.conditioning.encoder.model.parameters()} == {torch.float32}
    assert {weight.dtype for weight in load(tmp_path / "half").conditioning.encoder.model.parameters()} == {
        torch.float32
    }


def test_copies_share_prompts_and_text_encoder_and_no_training_state_holds_them(teacher):
    model = load(teacher)
    copy = model.copy()
    assert copy.conditioning is model.conditioning
    selected, _ = copy.conditioning.select(["cow"], copy.device)
    assert selected.encoder is model.conditioning.encoder
    assert all(name.startswith("network.") for name in model.state_dict())
    model.requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in model.conditioning.encoder.model.parameters())


def test_other_prompts_go_to_the_same_network(teacher):
    model = load(teacher)
    other = model.with_conditioning(Prompts.of(model.conditioning.encoder, [*PROMPTS, "an owl"], model.device))
    assert other.network is model.network
    x_t, t, c = batch()
    moved = torch.where(c == len(PROMPTS), len(PROMPTS) + 1, c)  # the null prompt comes after the new one
    assert torch.equal(other.forward(x_t, t, moved).output, model.forward(x_t, t, c).output)


LONG = "antbeecow" * 2


def test_a_prompt_that_is_asked_for_may_not_be_too_long(teacher):
    with pytest.raises(UserError, match=r"16 tokens, begin and end included, and this has 20: 'antbeecowantbeecow'"):
        load(teacher).conditioning.select(["cow", LONG], torch.device("cpu"))


def test_a_prompt_of_a_list_that_is_too_long_loses_its_end_as_in_stable_diffusion(teacher):
    expected, _ = pipeline_of(teacher).encode_prompt([LONG, "cow"], "cpu", 1, True)
    found = load(teacher, [LONG, "cow"]).conditioning.embeddings[torch.tensor([0, 1])]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert ModelFolder.open(str(teacher)).too_long(["cow", LONG, "ant"]) == (1,)


def test_embeddings_of_more_prompts_than_are_kept_are_the_same(teacher, monkeypatch):
    words = [f"{one} {other}" for one in PROMPTS for other in PROMPTS]
    whole = load(teacher, words).conditioning
    monkeypatch.setattr(stable_diffusion, "MOST_KEPT", 4)
    part = load(teacher, words).conditioning
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        c = torch.randint(len(words) + 1, (5,), generator=draw)
        assert torch.equal(part.embeddings[c], whole.embeddings[c])
    everything = torch.arange(len(words) + 1)
    assert torch.equal(part.embeddings[everything], whole.embeddings[everything])
    assert len(part.embeddings._kept) == 4
    swapped, expected = part.embeddings.swapped({0: 3}), whole.embeddings.swapped({0: 3})
    assert torch.equal(swapped[everything], expected[everything])
    assert torch.equal(expected[torch.tensor([0])], whole.embeddings[torch.tensor([3])])


def test_an_embedding_that_is_kept_is_not_made_again(teacher, monkeypatch):
    monkeypatch.setattr(stable_diffusion, "MOST_KEPT", 3)
    model = load(teacher, ["ant", "bee", "cow", "ant bee"]).conditioning
    made, embed = [], model.encoder.embed_ids
    monkeypatch.setattr(model.encoder, "embed_ids", lambda ids, device: made.append(len(ids)) or embed(ids, device))
    for wanted, count in (([0, 1], 2), ([1, 0], 2), ([2], 3), ([1, 0], 3), ([3], 4), ([0], 4), ([2], 5)):
        model.embeddings[torch.tensor(wanted)]
        assert sum(made) == count, wanted


def test_models_that_read_prompts_alike_may_share_what_they_keep(teacher, tmp_path):
    one, other = load(teacher).conditioning, load(teacher).conditioning
    assert one.equals(other)
    assert not one.equals(load(teacher, ["cow"]).conditioning)
    with torch.no_grad():
        next(other.encoder.model.parameters()).add_(1)
    assert not one.equals(other)


def as_published_in_2022(teacher, tensors):
    """Names with a prefix that newer versions of transformers leave out, and a buffer that is no weight."""
    old = {f"text_model.{name}": weight for name, weight in tensors.items()}
    return {**old, "text_model.embeddings.position_ids": torch.arange(TOKENS)[None]}


@pytest.mark.parametrize("pickled", [False, True])
def test_a_text_encoder_of_2022_is_the_same(teacher, published, pickled):
    path = teacher / "text_encoder" / "model.safetensors"
    tensors = as_published_in_2022(teacher, load_file(path))
    path.unlink()
    if pickled:
        torch.save(tensors, path.with_name("pytorch_model.bin"))
    else:
        save_file(tensors, path, metadata={"format": "pt"})
    c = torch.arange(len(PROMPTS) + 1)
    assert torch.equal(load(teacher).conditioning.embeddings[c], load(published["epsilon"]).conditioning.embeddings[c])


def test_a_weight_of_the_text_encoder_that_is_missing_is_not_made_up(teacher):
    path = teacher / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    del tensors["final_layer_norm.bias"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights do not fit its config.json \(final_layer_norm.bias is missing"):
        load(teacher)


def test_without_transformers_it_is_said_what_to_install(teacher, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'sfd-sweep\[transformers\]'"):
        load(teacher)


SDXL = {
    "_class_name": "StableDiffusionXLPipeline",
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}
FLUX = {
    "_class_name": "FluxPipeline",
    "unet": None,
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (SDXL, "StableDiffusionXLPipeline, which is not supported (it has a text_encoder_2)"),
        (FLUX, "FluxPipeline, which is not supported (its unet is missing)"),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "(its text_encoder is T5EncoderModel)"),
        ({"tokenizer": [None, None]}, "(its tokenizer is missing)"),
        ({"vae": ["diffusers", "VQModel"]}, "(its vae is VQModel)"),
        ({"image_encoder": ["transformers", "CLIPVisionModel"]}, "(it has a image_encoder)"),
    ],
)
def test_a_pipeline_of_another_kind_is_refused_with_what_is_supported(teacher, entries, words):
    change(teacher / "model_index.json", **entries)
    with pytest.raises(UserError) as raised:
        ModelFolder.open(str(teacher))
    message = str(raised.value)
    assert words in message
    assert "StableDiffusionPipeline folders (1.x and 2.x" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("file", "entries", "words"),
    [
        ("unet/config.json", {"_class_name": "UNet2DModel"}, "unet is no UNet2DConditionModel (it is UNet2DModel"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "wants more than a prompt (addition_embed_type is"),
        ("unet/config.json", {"num_class_embeds": 7}, "wants more than a prompt (num_class_embeds is 7)"),
        ("unet/config.json", {"in_channels": 9}, "out_channels must be in_channels (9), or twice that"),
        ("unet/config.json", {"cross_attention_dim": 1024}, "cross_attention_dim 1024, and"),
        ("text_encoder/config.json", {"hidden_size": 768}, "of hidden_size 768"),
        ("vae/config.json", {"latent_channels": 16}, "with latent_channels 16"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "'flow' is none of epsilon"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(teacher, file, entries, words):
    change(teacher / file, **entries)
    with pytest.raises(UserError) as raised:
        ModelFolder.open(str(teacher))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "file", ["text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/tokenizer_config.json"]
)
def test_a_part_that_is_missing_is_named(teacher, file):
    (teacher / file).unlink()
    with pytest.raises(UserError, match=f"{teacher / file} is missing"):
        load(teacher)
