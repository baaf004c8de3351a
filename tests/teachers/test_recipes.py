"""Presets of pretraining, distillation, and classifiers."""

import pytest

from sfd_sweep.teachers import classifier_training, distillation, recipes
from sfd_sweep.teachers.recipes import Recipe

PRESETS = {
    f"{module.__name__.rpartition('.')[2]}-{name}": preset
    for module in (recipes, distillation, classifier_training)
    for name, preset in module.PRESETS.items()
}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_is_valid(preset: Recipe) -> None:
    assert type(preset).model_validate(preset.model_dump()) == preset
