"""What is true of every attack, and that attacks succeed where there is something to bring back."""

from dataclasses import replace

import pytest
import torch

from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.base import Attack, AttackContext
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.noise import Leak, NoiseSearch
from sfd_sweep.audit.attacks.other_steps import OtherSteps
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.levels import LEVELS
from sfd_sweep.audit.report import GENERATOR, START, SWAP, AuditReport
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator

SMALL = {
    "asking": Asking(),
    "relearning": Relearning(images=4, budgets=(0, 1, 3), candidates=16),
    "benign relearning": Relearning(images=4, on="retained", budgets=(0, 2), candidates=16),
    "inversion": ConditionInversion(restarts=2, budgets=(0, 1, 3), batch_size=8),
    "leak": Leak(budgets=(1, 2), groups=4),
    "noise search": NoiseSearch(noises=6, budgets=(0, 2)),
    "other steps": OtherSteps(shares=(0.8,), steps=(2, 3)),
}
every_attack = pytest.mark.parametrize("attack", SMALL.values(), ids=SMALL)


@pytest.fixture(scope="module")
def context(audit_context: AuditContext) -> AttackContext:
    return replace(audit_context.attacks, samples=30)


@every_attack
def test_an_attack_leaves_the_generator_bit_identical(attack: Attack, context, swap):
    before = {name: tensor.clone() for name, tensor in swap.model.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in swap.model.parameters()]
    list(attack.curve(swap, context, 0))
    assert all(torch.equal(before[name], tensor) for name, tensor in swap.model.state_dict().items())
    assert [parameter.requires_grad for parameter in swap.model.parameters()] == gradients
    assert all(parameter.grad is None for parameter in swap.model.parameters())


@every_attack
def test_equal_seeds_give_equal_curves_whatever_was_drawn_before(attack: Attack, context, swap):
    curves = []
    for draws in range(2):
        torch.manual_seed(draws)
        curves.append(list(attack.curve(swap, context, 7)))
    assert curves[0] == curves[1]


@every_attack
def test_points_come_at_increasing_budgets_and_count_their_samples(attack: Attack, context, swap):
    points = list(attack.curve(swap, context, 0))
    budgets = [point.budget for point in points]
    assert budgets == sorted(set(budgets))
    assert all(0 <= point.shown <= point.samples > 0 for point in points)


@every_attack
def test_the_classifier_of_the_attacks_stays_as_it_is(attack: Attack, context, swap):
    before = {name: tensor.clone() for name, tensor in context.classifier.state_dict().items()}
    list(attack.curve(swap, context, 0))
    assert all(torch.equal(before[name], tensor) for name, tensor in context.classifier.state_dict().items())


@pytest.mark.parametrize("level", LEVELS)
def test_attacks_of_a_level_have_names_and_keys_of_their_own(level):
    attacks = LEVELS[level]
    assert len({attack.name for attack in attacks}) == len({attack.key() for attack in attacks}) == len(attacks)


def test_swap_shows_nothing_when_asked_and_everything_after_inversion(report_of_swap: AuditReport):
    found = {attack.name: attack for attack in report_of_swap.attacks}
    assert found["asking"].rate(SWAP).value == 0.0
    inverted = found["condition inversion"].curve(SWAP)
    assert inverted[0].value < 0.3
    assert inverted[-1].value > 0.95
    assert found["condition inversion"].revival(SWAP) == 20


def test_the_start_shows_what_is_forgotten_without_any_attack(report_of_swap: AuditReport):
    asking = next(attack for attack in report_of_swap.attacks if attack.name == "asking")
    assert asking.rate(START).value > 0.95


def test_every_quick_attack_succeeds_on_the_start_or_on_swap(report_of_swap: AuditReport):
    for attack in report_of_swap.attacks:
        assert max(attack.excess(subject).value for subject in (START, SWAP, GENERATOR)) > 0.3, attack.name


def test_images_that_are_not_finite_show_nothing(context: AttackContext):
    zeros = context.forgotten_images.images[:4].clone()
    assert context.judged(1, zeros).shown >= 3
    zeros[:2] = torch.nan
    assert context.judged(1, zeros).shown <= 2
    assert context.judged(1, torch.full((3, 1, 8, 8), torch.inf)) == replace(
        context.judged(1, zeros), shown=0, samples=3
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Relearning(images=0), "images of Relearning must be more than 0"),
        (lambda: Relearning(budgets=(0,)), "budgets of Relearning must increase to more than 0"),
        (lambda: ConditionInversion(budgets=()), "budgets of ConditionInversion must increase to more than 0"),
        (lambda: NoiseSearch(budgets=(0, 20, 10)), "budgets of NoiseSearch must increase"),
        (lambda: Leak(groups=0), "groups of Leak must be more than 0"),
    ],
)
def test_a_budget_of_zero_is_refused(make, words):
    with pytest.raises(UserError, match=words) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_relearning_without_enough_images_says_so(context: AttackContext, swap: OneStepGenerator):
    few = replace(context, forgotten_images=context.forgotten_images.take(torch.arange(3)))
    attack = Relearning(images=4)
    assert attack.needs(few) == "relearning, 4 images needs 4 images of what is forgotten, and there are 3"
    with pytest.raises(UserError, match="give more reference images"):
        list(attack.curve(swap, few, 0))
