"""A small Stable Diffusion from its images on: pretrained, distilled, and made to forget a concept as a class is.

"zero" is a condition like a class: losses, updates and the forgetting task are those of classes.
"""

import pytest
import torch

from sfd_sweep.datasets.named_datasets import WORDS
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.method.batch import FixedOverride, ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.teachers.distillation import PRESETS as DISTILLATIONS
from sfd_sweep.teachers.distillation import distill
from sfd_sweep.teachers.pretraining import pretrain
from sfd_sweep.teachers.recipes import PRESETS
from sfd_sweep.teachers.teacher_evaluator import TeacherEvaluator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CAPTIONS = PRESETS["digits-text"].text.captions
HELD_OUT = ("an image of the number {}", "a photo of a handwritten {}", "a sketch of {}", "please draw a {}")
PROMPTS = PRESETS["digits-text"].text.prompts(WORDS)
FORGETTING_STEPS = 60


@pytest.fixture(scope="module", name="teacher")
def _teacher(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("small-stable-diffusion") / "teacher"
    trained = pretrain(load_images("builtin:digits-in-words"), recipe=PRESETS["digits-text"])
    save_score_model(trained, folder, dtype=torch.float16)
    yield load_score_model(ModelFolder.open(str(folder)), prompts=PROMPTS)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", name="generator")
def _generator(teacher):
    return distill(teacher, DISTILLATIONS["prompts"])


def asked_for(conditional, prompts):
    """A teacher, or a generator, with other prompts."""
    if isinstance(conditional, OneStepGenerator):
        return OneStepGenerator(asked_for(conditional.model, prompts), conditional.t_init)
    return conditional.with_conditioning(conditional.conditioning.select(prompts, conditional.device)[0])


def drawn(conditional, captions, generate):
    """Which digit is seen, and which was asked for, in images of every digit by every caption."""
    asked = asked_for(conditional, [caption.replace("{}", word) for word in WORDS for caption in captions])
    c = torch.arange(len(WORDS) * len(captions)).repeat(20)
    images = generate(asked, c, torch.Generator().manual_seed(0))
    return load_classifier("builtin:digits")(images).argmax(1), c // len(captions)


def by_generator(generator, c, noise):
    return generator.generate(c, noise)


@pytest.mark.parametrize("captions", [CAPTIONS, HELD_OUT], ids=["known", "held-out"])
def test_a_teacher_draws_what_it_is_asked_for_in_whatever_words(teacher, captions):
    seen, wanted = drawn(teacher, captions, lambda *asked: sample_ddim(*asked, guidance_scale=1.5))
    assert float((seen == wanted).float().mean()) > 0.95


@pytest.mark.parametrize("captions", [CAPTIONS, HELD_OUT], ids=["known", "held-out"])
def test_a_generator_draws_it_in_one_step(generator, captions):
    seen, wanted = drawn(generator, captions, by_generator)
    assert float((seen == wanted).float().mean()) > 0.95


def test_a_generator_is_near_to_real_digits(generator):
    assert TeacherEvaluator.load().distance(asked_for(generator, WORDS).generate) < 2.5


def test_zero_is_forgotten_in_held_out_words_too_and_the_others_are_kept(teacher, generator):
    each = len(CAPTIONS)
    settings = DISTILLATIONS["prompts"].settings.model_copy(
        update={
            "forget_batch_size": 16,
            "forget_weight": 0.1,
            "fake_score_forget_weight": 0.1,
            "guidance_scale": 1.0,
        }
    )
    task = ForgettingTask(
        retained=tuple(range(each, len(PROMPTS))),
        forgotten=tuple(range(each)),
        override=FixedOverride({zero: zero + each for zero in range(each)}),  # the same caption of "one"
    )
    trainer = Trainer(teacher, generator.model, task, settings, seed=0)
    for _ in range(FORGETTING_STEPS):
        trainer.update()
    for captions in (CAPTIONS, HELD_OUT):
        seen, wanted = drawn(trainer.ema_generator, captions, by_generator)
        zero = wanted == 0
        assert float((seen[zero] != 0).float().mean()) > 0.95
        assert float((seen[zero] == 1).float().mean()) > 0.6
        assert float((seen[~zero] == wanted[~zero]).float().mean()) > 0.9
