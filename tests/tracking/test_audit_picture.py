"""The picture of an audit."""

import io

import numpy as np
import pytest
from PIL import Image

from sfd_sweep.audit.report import AttackReport, AttackRun, AuditReport, CurvePoint, JudgeReport
from sfd_sweep.tracking.audit_picture import audit_png


def report(attacks: int, points: int = 3, **subjects: int) -> AuditReport:
    def runs(shown: int) -> tuple[AttackRun, ...]:
        curve = tuple(CurvePoint(budget=step, shown=shown, samples=100) for step in range(points))
        return (AttackRun(seed=0, points=curve, seconds=1.0),)

    return AuditReport(
        level="full",
        forgotten=("0", "7"),
        judge=JudgeReport(name="a judge", recognized=1.0, false_alarms=0.0),
        classifier="a classifier",
        images="real images",
        sources=dict.fromkeys(subjects, "somewhere"),
        attacks=tuple(
            AttackReport(
                name=f"attack {number}",
                description="",
                unit="updates",
                runs={subject: runs(shown) for subject, shown in subjects.items()},
            )
            for number in range(attacks)
        ),
        retained={subject: {} for subject in subjects},
        missing=(),
        device="cpu",
    )


def picture(drawn: AuditReport) -> Image.Image:
    return Image.open(io.BytesIO(audit_png(drawn))).convert("RGB")


@pytest.mark.parametrize(("attacks", "rows"), [(1, 1), (4, 1), (5, 2), (9, 3)])
def test_every_attack_has_a_panel_in_rows_of_four(attacks, rows):
    width, height = picture(report(attacks, generator=10)).size
    tallest = picture(report(1, generator=10)).size[1]
    assert abs((height - tallest) - (rows - 1) * 2.7 * 160) < 3
    assert width == round(max(2, min(attacks, 4)) * 3.3 * 160)


def test_a_subject_more_is_a_line_more():
    alone, together = (
        np.asarray(picture(report(2, **given))) for given in ({"generator": 10}, {"generator": 10, "swap": 90})
    )
    assert alone.shape == together.shape
    assert (alone != together).any()


def test_an_attack_with_one_budget_is_drawn():
    assert picture(report(1, points=1, generator=50, never_knew=0)).size[0] > 100
