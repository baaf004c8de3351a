"""The attacks of an audit's level."""

from __future__ import annotations

from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.base import Attack
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.noise import Leak, NoiseSearch
from sfd_sweep.audit.attacks.other_steps import OtherSteps
from sfd_sweep.audit.attacks.prefix import PrefixSearch
from sfd_sweep.audit.attacks.prompts import ConceptDirection, HeldOutPrompts, Misspellings, NearPrompt, RandomTokens
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.report import Level

LEVELS: dict[Level, tuple[Attack, ...]] = {
    "quick": (
        Asking(),
        Relearning(images=25),
        ConditionInversion(restarts=2, budgets=(0, 20, 40)),
        Leak(budgets=(1, 10), groups=50),
    ),
    "full": (
        Asking(),
        *(Relearning(images=n, budgets=(0, 5, 10, 20, 40, 80)) for n in (1, 5, 25, 100)),
        Relearning(images=100, on="retained", budgets=(0, 10, 20, 40, 80)),
        ConditionInversion(),
        Leak(),
        NoiseSearch(),
        OtherSteps(),
        HeldOutPrompts(),
        Misspellings(),
        RandomTokens(),
        ConceptDirection(),
        NearPrompt(),
        PrefixSearch(),
    ),
}
"""A quick audit takes seconds on digits; a full one is for a generator that is to be released."""

SEEDS: dict[Level, tuple[int, ...]] = {"quick": (0,), "full": (0, 1, 2)}
"""Seeds of the attacks."""
