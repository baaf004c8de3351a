"""Pretraining from beginning to end."""

import pytest
import torch

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.teachers.pretraining import pretrain
from sfd_sweep.teachers.recipes import Pretraining

RECIPE = Pretraining(channels=(8, 8), norm_groups=4, steps=30, batch_size=32, ema_decay=0.5, seed=1)


def test_pretraining_learns_and_is_repeatable():
    digits = load_images("builtin:digits")

    def denoising_error(model):
        generator = torch.Generator().manual_seed(0)
        x_0, c = digits.images[:256], digits.labels[:256]
        t, epsilon = torch.randint(1000, (256,), generator=generator), torch.randn(x_0.shape, generator=generator)
        with torch.no_grad():
            prediction = model.forward(model.schedule.diffuse(x_0, t, epsilon), t, c)
        return float(prediction.denoising_error(x_0, epsilon, "velocity").square().mean())

    untrained = pretrain(digits, recipe=Pretraining(channels=(8, 8), norm_groups=4, steps=2, lr=1e-12))
    seen = []
    first, second = (pretrain(digits, recipe=RECIPE, progress=lambda *reports: seen.append(reports)) for _ in range(2))
    assert denoising_error(first) < 0.7 * denoising_error(untrained)
    assert first.conditioning.null == 10
    assert first.prediction_type == "v_prediction"
    assert not any(parameter.requires_grad for parameter in first.parameters())
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    assert [reports[:2] for reports in seen] == [(10, 30), (20, 30), (30, 30)] * 2
    assert seen[:3] == seen[3:]


@pytest.mark.parametrize(("label_dropout", "null_learns"), [(0.0, False), (1.0, True)])
def test_dropped_labels_train_the_null_label_and_no_other(label_dropout, null_learns):
    digits = load_images("builtin:digits")

    def embeddings(**changes):
        recipe = Pretraining(channels=(8, 8), norm_groups=4, steps=10, ema_decay=0.0, **changes)
        model = pretrain(digits, recipe=recipe)
        return model.network.class_embedding.weight

    moved = (embeddings(label_dropout=label_dropout) - embeddings(lr=1e-12)).abs().mean(1)
    classes, null = float(moved[:10].min()), float(moved[10])
    assert (null > 10 * classes) if null_learns else (classes > 10 * null)


def test_a_class_without_images_keeps_its_label_and_is_never_trained():
    digits = load_images("builtin:digits").without([3, 0])

    def teacher(**changes):
        recipe = {"channels": (8, 8), "norm_groups": 4, "steps": 10, "weight_decay": 0, "ema_decay": 0.0, **changes}
        return pretrain(digits, recipe=Pretraining(**recipe))

    trained = teacher()
    assert trained.conditioning.names == digits.class_names
    assert trained.conditioning.absent == (0, 3)
    rows = [model.network.class_embedding.weight for model in (trained, teacher(lr=1e-30))]
    moved = (rows[0] - rows[1]).abs().amax(1)
    assert (moved[[0, 3]] == 0).all()
    assert moved[[1, 2, 4, 5, 6, 7, 8, 9, 10]].min() > 0
