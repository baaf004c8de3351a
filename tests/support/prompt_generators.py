"""Generators of prompts that are simple enough to be known through and through, with real text encoders.

The image of a prompt is bright where the text encoder's last token lies nearer to prompts about ants than to others,
and dark elsewhere. Ants are the concept.
"""

from types import SimpleNamespace

import torch
from tiny_models import scheduler
from tiny_text_models import tiny_text_encoder, tiny_tokenizer
from torch import nn

from sfd_sweep.audit.attacks.base import AttackContext
from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import PROMPTS
from sfd_sweep.models.families.stable_diffusion import Prompts, TextEncoder
from sfd_sweep.models.score_model import ScoreModel

FORGOTTEN, HELD_OUT, RETAINED = ("ant", "an ant"), ("red ant", "big ant"), ("bee", "a bee", "owl", "an owl")
CONDITIONS = Conditions(
    names=(*FORGOTTEN, *HELD_OUT, *RETAINED),
    subjects=("ant",) * 4 + ("bee",) * 2 + ("owl",) * 2,
    retain=(4, 5, 6, 7),
    forget=(0, 1),
    evaluated=(4, 5, 6, 7),
    held_out=(2, 3),
    called=((1,),) * 4 + ((0,),) * 4,
)


class Bright(Classifier):
    """Calls images by their mean: class 1 above a threshold."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__(("dark", "bright"), channels=1)
        self.threshold = threshold

    def features(self, images):
        return images.flatten(1).mean(1, keepdim=True) - self.threshold

    def logits_from_features(self, features):
        return torch.cat([-features, features], 1) * 4

    def description(self):
        return f"bright above {self.threshold}"


class BrightJudge:
    """Another one, which does not share the attacker's threshold."""

    name = "a light meter"

    def shows_forgotten(self, images):
        return images.flatten(1).mean(1) > 0.2

    def content_hash(self):
        return self.name


class BrightnessNetwork(nn.Module):
    """x̂_0 = tanh(gain · (⟨last token, direction⟩ - midpoint)) everywhere, with a little of the noise."""

    def __init__(self, direction, midpoint, gain):
        super().__init__()
        self.config = SimpleNamespace(in_channels=1, sample_size=2)
        self.direction, self.midpoint = nn.Parameter(direction), nn.Parameter(midpoint)
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x_t, t, encoder_hidden_states):
        side = encoder_hidden_states[:, -1] @ self.direction - self.midpoint
        return SimpleNamespace(sample=torch.tanh(self.gain * side).view(-1, 1, 1, 1) + 0.05 * x_t)


def text_encoder(seed: int = 0) -> TextEncoder:
    tokenizer = tiny_tokenizer()
    return TextEncoder(tokenizer, tiny_text_encoder(tokenizer, seed=seed))


def knowing(encoder: TextEncoder | None = None, *, gain: float = 30.0) -> OneStepGenerator:
    """A generator that knows ants; with a gain of 0 one that never knew them."""
    encoder = encoder or text_encoder()
    ants = encoder([*FORGOTTEN, *HELD_OUT], "cpu")[:, -1].mean(0)
    others = encoder(RETAINED, "cpu")[:, -1].mean(0)
    direction = ants - others
    network = BrightnessNetwork(direction, (ants + others) @ direction / 2 if gain else torch.ones(()), gain)
    if not gain:
        network.gain.data.fill_(1.0)
        network.direction.data.zero_()
    prompts = Prompts.of(encoder, CONDITIONS.names, "cpu")
    return OneStepGenerator(ScoreModel(network, scheduler("sample"), prompts), 625)


def with_swapped_prompts(generator: OneStepGenerator) -> OneStepGenerator:
    """The null baseline: the forgotten prompts have the embeddings of retained ones."""
    prompts = generator.model.conditioning
    swapped = Prompts(prompts.encoder, prompts.names, prompts.embeddings.swapped({0: 4, 1: 5}))
    return OneStepGenerator(generator.model.with_conditioning(swapped), generator.t_init)


def attack_context(conditions: Conditions = CONDITIONS, **changes) -> AttackContext:
    images = ConditionImages(torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64), 256)
    return AttackContext(
        **{
            "judge": BrightJudge(),
            "classifier": Bright().requires_grad_(False),
            "conditions": conditions,
            "forgotten_images": images,
            "retained_images": images,
            "samples": 20,
            "device": torch.device("cpu"),
            "kind": PROMPTS,
            **changes,
        }
    )
