"""Controls: which generators an audited one is compared with."""

import pytest
from tiny_latent_models import tiny_latent_model
from tiny_models import NAMES, tiny_model
from tiny_text_models import save_stable_diffusion

from sfd_sweep.audit.controls import check_control, check_never_knew
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model

FORGET_ANT = Conditions.of_classes(NAMES, [0])


def generator(*absent: int, t_init: int = 440, names=NAMES) -> OneStepGenerator:
    return OneStepGenerator(tiny_model().with_conditioning(ClassLabels(names, absent=absent)), t_init)


def refusal(check, *arguments) -> str:
    with pytest.raises(UserError) as raised:
        check(*arguments, "the-control")
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_control_of_the_same_classes_image_size_and_step_can_be_compared():
    check_control(generator(0), generator(), "the-control")


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (generator(0, names=("ant", "bee", "owl")), "the-control has other classes than the generator"),
        (generator(0, names=("bee", "ant", "cow")), "the-control has other classes than the generator"),
        (
            OneStepGenerator(tiny_latent_model(), 440),
            r"the-control has images of shape (3, 8, 8), and the generator (1, 4, 4)",
        ),
        (generator(0, t_init=441), "the-control has t_init 441, and the generator 440"),
    ],
    ids=["other classes", "another order", "another image size", "another step"],
)
def test_a_control_that_cannot_be_compared_is_refused(control, words):
    assert words in refusal(check_control, control, generator())


def test_a_control_that_lacks_exactly_what_is_forgotten_never_knew():
    check_never_knew(generator(0), FORGET_ANT, "the-control")
    check_never_knew(generator(0, 2), Conditions.of_classes(NAMES, [2, 0]), "the-control")


def test_a_control_may_lack_what_is_neither_forgotten_nor_retained():
    check_never_knew(generator(0, 2), FORGET_ANT.without([2]), "the-control")


def test_a_control_that_has_seen_what_is_forgotten_is_refused_with_the_way_to_make_one():
    for seen in (generator(), generator(1)):
        message = refusal(check_never_knew, seen, FORGET_ANT)
        assert "audit.control: the-control is not known to have been trained without 'ant'" in message
        assert "sfd-sweep pretrain … --without ant" in message
    assert "'cow'" in refusal(check_never_knew, generator(0), Conditions.of_classes(NAMES, [0, 2]))


def test_a_control_that_lacks_what_is_retained_is_refused():
    message = refusal(check_never_knew, generator(0, 2), FORGET_ANT)
    assert "the-control was trained without 'cow' too, which is retained" in message


def test_a_control_of_prompts_lacks_those_that_name_what_it_never_knew(tmp_path):
    folder = ModelFolder.open(str(save_stable_diffusion(tmp_path / "teacher")))
    prompts = ("a Red Ant", "ant at work", "an antelope", "a bee")
    folder.index["absent"] = {"concepts": ["ant"]}
    control = OneStepGenerator(load_score_model(folder, prompts=prompts), 625)
    assert control.model.conditioning.absent == (0, 1)

    def forgetting(*forget: int) -> Conditions:
        retain = tuple({0, 1, 2, 3} - {*forget})
        return Conditions(
            names=prompts, subjects=("ant", "ant", "", "bee"), retain=retain, forget=forget, evaluated=retain
        )

    check_never_knew(control, forgetting(0, 1), "the-control")
    assert "'a bee'" in refusal(check_never_knew, control, forgetting(0, 1, 3))
    assert "'ant at work' too, which is retained" in refusal(check_never_knew, control, forgetting(0))
