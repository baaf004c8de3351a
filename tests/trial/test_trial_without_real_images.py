"""The method reads no real image, and with the teacher's samples as reference nor does the judge."""

import pytest
from stand_in_inception import write_stand_in
from trial_cases import digits_settings, digits_space

from sfd_sweep.datasets import finding
from sfd_sweep.evaluation import factory as building
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner


@pytest.fixture(name="no_images")
def _no_images(monkeypatch):
    """A machine without any source of real images, where who looks for one fails."""

    def refuse(*_arguments, **_options):
        raise AssertionError("real images were asked for")

    monkeypatch.setattr(building, "load_images", refuse)
    monkeypatch.setitem(finding.BUILTIN_IMAGES, "builtin:digits", refuse)


def test_a_trial_against_the_teachers_samples_runs_where_no_real_image_is(no_images, tmp_path, monkeypatch):
    weights = write_stand_in(tmp_path / "inception", monkeypatch)
    space = digits_space(
        "evaluation.reference=teacher",
        "evaluation.teacher_samples={samples: 2400, steps: 2}",
        f"evaluation.inception.weights={weights}",
        "objectives.0={metric: fid_teacher, goal: minimize, reference_point: 500}",
    )
    context, folder = TrialContext.build(resolve_sweep(space), None), Folder.open(tmp_path / "0000")
    report = TrialRunner(context, digits_settings(space), folder).advance(2)
    assert report.metrics.keys() >= {"fid_teacher", "unlearning_accuracy"}
    final = context.evaluate_final(digits_settings(space), folder, samples=90, forget_samples=40)
    assert final.metrics["fid_teacher"] > 0


def test_a_trial_against_real_images_asks_for_them(no_images):
    with pytest.raises(AssertionError, match="real images were asked for"):
        TrialContext.build(resolve_sweep(digits_space()), None)
