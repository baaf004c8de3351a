"""Pretraining of text-to-image teachers: captions, what stands before the network, and the network itself."""

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from recipes import changed
from torch.nn import functional as F

from sfd_sweep.datasets.named_datasets import WORDS
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.models.loading import save_score_model
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers import text_to_image
from sfd_sweep.teachers.examples import CaptionedLatents
from sfd_sweep.teachers.networks import check_images
from sfd_sweep.teachers.pretraining import COMPONENTS, pretrain
from sfd_sweep.teachers.recipes import PRESETS, TextPretraining
from sfd_sweep.teachers.text_encoder import contrastive_loss, new_text_encoder, train_text_encoder, word_tokenizer
from sfd_sweep.teachers.text_to_image import encode_images, new_autoencoder, train_autoencoder
from sfd_sweep.teachers.training_job import Checkpoints

CPU = torch.device("cpu")
DIGITS = load_images("builtin:digits-in-words")
TINY = changed(
    PRESETS["digits-text"],
    {
        "channels": [8, 8],
        "norm_groups": 4,
        "attention_head_dim": 4,
        "steps": 6,
        "batch_size": 8,
        "text": {
            "captions": ["{}", "the number {}"],
            "text_width": 8,
            "text_steps": 3,
            "autoencoder_channels": [8, 8],
            "autoencoder_steps": 3,
        },
    },
)
HELD_OUT = ("an image of the number {}", "a sketch of {}", "please draw a {}")


def test_the_digits_in_words_are_the_digits():
    plain = load_images("builtin:digits")
    assert DIGITS.class_names == WORDS
    assert torch.equal(DIGITS.labels, plain.labels)
    assert torch.equal(DIGITS.pixels, plain.pixels)
    assert DIGITS.levels == plain.levels == 17


def test_a_tokenizer_reads_its_words_whole_and_others_byte_by_byte():
    tokenizer = word_tokenizer(["a photo of Zero", "größe"], 16)

    def tokens(text):
        return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1]

    assert tokens("Photo of zero") == ["photo</w>", "of</w>", "zero</w>"]
    assert len(tokens("größe")) == 1
    assert tokens("zoo") == ["z", "o", "o</w>"]
    assert len(tokens("ö")) == 2
    begin, zero, end = tokenizer("zero").input_ids
    assert (begin, end) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode([zero]) == "zero"


def test_the_same_words_are_read_whole_when_the_tokenizer_was_saved(tmp_path):
    tokenizer = word_tokenizer(["a photo of zero"], 16)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert again("a zoo of zero photo").input_ids == tokenizer("a zoo of zero photo").input_ids
    assert again.model_max_length == 16


def test_prompts_go_by_class():
    recipe = TextPretraining(captions=("the number {}", "{}"))
    assert recipe.prompts(("one", "two")) == ("the number one", "one", "the number two", "two")
    assert recipe.shortest_prompts(("one", "two")) == ("one", "two")


def test_of_distinct_labels_the_contrastive_loss_is_clips():
    similarities = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6)
    expected = (F.cross_entropy(similarities, labels) + F.cross_entropy(similarities.T, labels)) / 2
    torch.testing.assert_close(contrastive_loss(similarities, labels), expected)


def test_the_contrastive_loss_is_least_where_equal_labels_are_alike():
    labels = torch.tensor([0, 0, 1, 2, 1])
    alike = 50 * (labels[:, None] == labels[None]).float()
    by_label = contrastive_loss(alike, labels)
    entropy = torch.tensor([2, 2, 2, 1, 2]).log().mean()  # of a choice among those of one's label
    torch.testing.assert_close(by_label, entropy)
    assert contrastive_loss(alike.roll(1, 0), labels) > by_label + 1


def test_an_autoencoder_learns_to_give_images_back():
    recipe = TextPretraining(autoencoder_channels=(8, 8), autoencoder_steps=100)
    autoencoder = new_autoencoder(DIGITS.image_shape, recipe, norm_groups=4, seed=0)

    def error(network: AutoencoderKL) -> float:
        means, deviations = encode_images(network, DIGITS, CPU)
        assert means.shape == deviations.shape == (len(DIGITS), 4, 4, 4)
        with torch.no_grad():
            return float(F.mse_loss(network.decode(means[:300]).sample, DIGITS.images[:300]))

    before = error(autoencoder)
    train_autoencoder(autoencoder, DIGITS, recipe, device=CPU, seed=0)
    assert error(autoencoder) < 0.5 * min(before, float(DIGITS.images.var()))


def test_captions_come_to_be_nearest_to_images_of_their_class():
    """By the encoder's states alone: a linear map of them, fitted to some captions, names the class of others."""
    recipe = TextPretraining(text_steps=150, disturbed_captions=2)
    encoder = new_text_encoder(recipe.prompts(WORDS), recipe, seed=0)

    def called_right(encoder) -> float:
        def states(captions):
            return encoder([caption.format(word) for word in WORDS for caption in captions], "cpu").mean(1)

        labels = torch.arange(10).repeat_interleave(len(recipe.captions))
        fit = torch.linalg.lstsq(states(recipe.captions), F.one_hot(labels).float()).solution
        called = (states(HELD_OUT) @ fit).argmax(1)
        return float((called == torch.arange(10).repeat_interleave(len(HELD_OUT))).float().mean())

    assert called_right(encoder) < 0.2
    train_text_encoder(encoder, DIGITS.images, DIGITS, recipe, device=CPU, seed=0)
    assert called_right(encoder) > 0.4


def examples(captions: int = 2) -> CaptionedLatents:
    means = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    ends = text_to_image.TextToImageComponents.untrained(DIGITS, TINY.text, norm_groups=4, seed=0)
    prompts = ends.examples(CPU).conditioning
    return CaptionedLatents(means, 0.01 * means, torch.tensor([0, 7, 9, 9]), None, prompts, captions)


def test_a_latent_is_drawn_with_a_caption_of_its_class():
    rows = torch.randint(4, (400,), generator=torch.Generator().manual_seed(0))
    x_0, c = examples().draw(rows, slice(None), torch.Generator().manual_seed(1))
    assert torch.equal(c // 2, torch.tensor([0, 7, 9, 9])[rows])
    assert 150 < int((c % 2).sum()) < 250
    assert torch.equal(x_0.mean((1, 2, 3)).round(), rows.float())
    assert x_0[rows == 3].std() == pytest.approx(0.03, rel=0.1)


def test_workers_shares_are_parts_of_one_draw():
    rows = torch.tensor([3, 0, 1, 2, 3])
    whole, *shares = (
        examples().draw(rows, share, torch.Generator().manual_seed(1))
        for share in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    for part, (first, second) in enumerate(zip(*shares, strict=True)):
        assert torch.equal(whole[part][0::2], first)
        assert torch.equal(whole[part][1::2], second)


@pytest.fixture(name="checkpoints")
def _checkpoints(tmp_path):
    return Checkpoints(Folder.open(tmp_path / "state"), 2)


def test_a_teacher_is_repeatable_and_one_that_was_stopped_resumes_without_training_its_components_again(
    checkpoints, monkeypatch
):
    whole = pretrain(DIGITS, recipe=TINY)

    class Stopped(Exception):
        pass

    def stop(step, steps, loss):
        raise Stopped

    monkeypatch.setattr("sfd_sweep.teachers.pretraining.STEPS_BETWEEN_REPORTS", 3)
    with pytest.raises(Stopped):
        pretrain(DIGITS, recipe=TINY, checkpoints=checkpoints, progress=stop)
    monkeypatch.setattr(text_to_image, "train_autoencoder", stop)
    monkeypatch.setattr(text_to_image, "train_text_encoder", stop)
    resumed = pretrain(DIGITS, recipe=TINY, checkpoints=checkpoints)
    parts = (lambda m: m.network, lambda m: m.decoder.vae, lambda m: m.conditioning.encoder.model)
    for part in parts:
        for name, weight in part(whole).state_dict().items():
            assert torch.equal(part(resumed).state_dict()[name], weight), name
    assert resumed.conditioning.names == whole.conditioning.names == TINY.text.prompts(WORDS)
    assert resumed.decoder.vae.config.scaling_factor == whole.decoder.vae.config.scaling_factor


def test_latents_have_a_standard_deviation_of_one():
    ends = text_to_image.TextToImageComponents.untrained(DIGITS, TINY.text, norm_groups=4, seed=0)
    made = ends.examples(CPU)
    assert float(made.means.std()) == pytest.approx(1, rel=1e-5)
    with torch.no_grad():
        decoded = made.decoder(made.means[:5])
        mean = ends.autoencoder.encode(DIGITS.images[:5]).latent_dist.mean
        torch.testing.assert_close(decoded, ends.autoencoder.decode(mean).sample, rtol=1e-4, atol=1e-4)


def test_components_that_are_kept_broken_are_refused(checkpoints):
    checkpoints.folder.write(COMPONENTS, b"nothing")
    with pytest.raises(UserError, match=f"cannot resume from .*{COMPONENTS}.*--force"):
        pretrain(DIGITS, recipe=TINY, checkpoints=checkpoints)


@pytest.mark.parametrize(("part", "rate"), [("autoencoder", "autoencoder_lr"), ("text encoder", "text_lr")])
def test_components_that_diverge_are_named(part, rate):
    with pytest.raises(TrialFailed, match=f"the {part} diverged"):
        pretrain(DIGITS, recipe=changed(TINY, {"text": {rate: 1e30}}))


def test_the_network_is_one_of_stable_diffusion_on_its_schedule():
    model = pretrain(DIGITS, recipe=changed(TINY, {"attention_sizes": [4], "prediction_type": "v_prediction"}))
    config = model.network.config
    assert list(config.down_block_types) == ["CrossAttnDownBlock2D", "DownBlock2D"]
    assert list(config.up_block_types) == ["UpBlock2D", "CrossAttnUpBlock2D"]
    assert config.attention_head_dim == [2, 2]  # heads of 4 channels
    assert (config.cross_attention_dim, config.sample_size, config.in_channels) == (8, 4, 4)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    torch.testing.assert_close(model.scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4, atol=0)
    assert model.prediction_type == "v_prediction"


def test_stock_diffusers_makes_images_of_prompts_with_it(tmp_path):
    model = pretrain(DIGITS, recipe=TINY)
    save_score_model(model, tmp_path / "teacher")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "teacher", low_cpu_mem_usage=False)
    image = pipeline("a photo of zero", height=8, width=8, num_inference_steps=2).images[0]
    assert (image.size, image.mode) == ((8, 8), "L")


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((1, 8, 6), {}, "square images 1 times, which 8×6 ones cannot be"),
        ((3, 36, 36), {"text": {"autoencoder_channels": [8, 8, 8, 8]}}, "3 times, which 36×36"),
        ((3, 36, 36), {"channels": [8, 8, 8]}, "the network halves its images 2 times, which 18×18"),
    ],
)
def test_images_that_do_not_fit_the_autoencoder_or_the_network_are_refused(shape, changes, message):
    with pytest.raises(UserError, match=message):
        check_images(shape, changed(TINY, changes))


def test_a_caption_that_is_too_long_is_refused_before_anything_is_trained():
    recipe = changed(TINY, {"text": {"captions": ["one two three four five six {}"], "tokens": 8}})
    with pytest.raises(UserError, match="8 tokens, begin and end included, and this has 9"):
        pretrain(DIGITS, recipe=recipe)


@pytest.mark.parametrize(
    "changes",
    [
        {"horizontal_flips": True},
        {"middle_attention": False},
        {"text": {"captions": []}},
        {"text": {"captions": ["a digit"]}},
        {"text": {"captions": ["{} or {}"]}},
        {"text": {"text_heads": 3}},
        {"text": {"autoencoder_channels": [8, 10]}},
        {"text": {"color": "blue"}},
    ],
)
def test_a_recipe_is_sound_or_refused(changes):
    with pytest.raises(UserError, match="^--set"):
        changed(TINY, changes)


def test_a_teacher_without_a_class_has_never_seen_its_images_or_its_captions():
    whole, without = (pretrain(images, recipe=TINY) for images in (DIGITS, DIGITS.without([0])))
    prompts = without.conditioning
    assert prompts.names == whole.conditioning.names
    assert [prompts.names[index] for index in prompts.absent] == ["zero", "the number zero"]
    assert prompts.encoder.tokenizer.get_vocab() == whole.conditioning.encoder.tokenizer.get_vocab()
    random, rows = torch.Generator().manual_seed(0), torch.arange(len(DIGITS.without([0])))
    components = text_to_image.TextToImageComponents.untrained(DIGITS.without([0]), TINY.text, norm_groups=4, seed=0)
    _, c = components.examples(CPU).draw(rows, slice(None), random)
    assert set(c.tolist()) == set(range(2, 20))


def test_images_of_a_class_that_is_left_out_do_not_reach_the_components(monkeypatch):
    """The text encoder has a token for its name, whose embedding stays as it was drawn."""
    components = text_to_image.TextToImageComponents.untrained(DIGITS.without([0]), TINY.text, norm_groups=4, seed=0)
    encoder = components.text_encoder

    def embedding(word):
        token = encoder.tokenizer(word).input_ids[1]
        return encoder.model.get_input_embeddings().weight[token].clone()

    before = {word: embedding(word) for word in ("zero", "one")}
    recipe = changed(TINY.text, {"text_steps": 5, "disturbed_captions": 0})
    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.Adam)  # whose weights move by gradients alone
    train_text_encoder(encoder, components.images.images, components.images, recipe, device=CPU, seed=0)
    assert torch.equal(embedding("zero"), before["zero"])
    assert not torch.equal(embedding("one"), before["one"])
