"""Methods of unlearning in a search-space file, and the settings that belong to them."""

from pathlib import Path

import pytest
from trial_cases import digits_space

from sfd_sweep.config import Settings, dump_search_space, load_search_space, parse_search_space
from sfd_sweep.config.methods import METHODS
from sfd_sweep.errors import UserError
from sfd_sweep.method.cost import update_cost

SPACES = Path(__file__).parents[2] / "search_spaces"

BOTH = "parameters.method={type: categorical, choices: [sfd, sa]}"
WEIGHT = "parameters.fisher_weight={type: float, low: 1, high: 100, log: true"


def refusal(*overrides):
    with pytest.raises(UserError) as caught:
        digits_space(*overrides)
    return str(caught.value)


def test_sfd_is_the_default_and_files_without_a_method_stay_valid():
    assert digits_space().parameters.fixed()["method"] == "sfd"
    assert Settings().method == "sfd"


def test_a_setting_of_a_method_may_be_searched_where_that_method_is_drawn():
    space = digits_space(BOTH, WEIGHT + ", when: {method: sa}, otherwise: 10}", "parameters.fake_score_loss=velocity")
    asked = []

    def suggest(name, distribution):
        asked.append(name)
        return {"method": "sfd", "generator_lr": 1e-4}[name]

    values = space.parameters.draw(suggest)
    assert "fisher_weight" not in asked
    assert values["fisher_weight"] == 10
    assert parse_search_space(dump_search_space(space), "dumped") == space


def test_a_setting_of_the_only_method_needs_no_condition():
    space = digits_space("parameters.method=sa", "parameters.fake_score_loss=epsilon", WEIGHT + "}")
    assert "fisher_weight" in space.parameters.searched()


def test_a_searched_setting_of_one_method_without_its_condition_is_an_error():
    message = refusal(BOTH, WEIGHT + "}")
    assert "parameters.fisher_weight: is a setting of sa, and parameters.method is sfd or sa" in message
    assert "add `when: {method: sa}, otherwise: 10.0`" in message
    assert message.count("\n") == 0


def test_a_condition_on_another_method_does_not_do():
    assert "add `when: {method: sa}" in refusal(BOTH, WEIGHT + ", when: {method: [sa, sfd]}, otherwise: 10}")
    several = "parameters.method={type: categorical, choices: [sfd, finetune, sa]}"
    alpha = "parameters.alpha={type: float, low: 0.5, high: 1.5}"
    assert "add `when: {method: [sfd, finetune]}, otherwise: 1.2`" in refusal(several, alpha)


@pytest.mark.parametrize("value", ["3", "{type: float, low: 1, high: 2}"])
def test_a_setting_that_no_trial_reads_is_an_error(value):
    message = refusal(f"parameters.fisher_weight={value}")
    assert "is a setting of sa, and parameters.method is sfd; remove it, or change the method" in message


def test_settings_of_sfd_belong_to_it_too():
    message = refusal("parameters.method=sa", "parameters.fake_score_loss=epsilon", "parameters.alpha=1")
    assert "parameters.alpha: is a setting of sfd or finetune, and parameters.method is sa" in message


def test_a_default_value_may_be_written():
    digits_space("parameters.fisher_weight=10")


@pytest.mark.parametrize("method", ["uce", "{type: categorical, choices: [sfd, uce]}"])
def test_a_method_for_concepts_does_not_apply_to_classes(method):
    message = refusal(f"parameters.method={method}", "parameters.fake_score_loss=epsilon")
    assert "uce applies to task.kind concept, and this is class; remove it" in message


def test_selective_amnesia_needs_samples_for_its_fisher_information():
    message = refusal("parameters.method=sa", "parameters.fake_score_loss=epsilon", "parameters.fisher_samples=0")
    assert "parameters.fisher_samples: must be greater than 0" in message


def test_a_method_reads_its_own_settings_and_those_of_all():
    read = Settings(method="esd").of_method()
    assert {"negative_guidance_scale", "generator_lr", "override", "method"} <= read.keys()
    assert not {"alpha", "fisher_weight", "guidance_scale"} & read.keys()


@pytest.mark.parametrize("name", ["digits-rivals", "cifar10-rivals"])
def test_a_shipped_comparison_tries_every_method_that_applies_first(name):
    space = load_search_space(SPACES / f"{name}.yaml")
    methods = space.parameters.searched()["method"].choices
    assert set(methods) == {method for method, source in METHODS.items() if space.task.kind in source.kinds}
    assert [point["method"] for point in space.search.first] == list(methods)
    assert len(space.objectives) == 3
    assert space.trial.step_cost == update_cost(Settings(**{**space.parameters.fixed(), "method": "sfd"}))
