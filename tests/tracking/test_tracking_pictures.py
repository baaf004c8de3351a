"""Pictures for every sweep that there can be."""

import io
import json
import math
import re
from itertools import pairwise

import pytest
from PIL import Image
from recorded import sweep, trial
from tracked_sweep import search_space

from sfd_sweep.config import Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.front_view import Axis, FrontView, to_nines, within
from sfd_sweep.tracking.interactive import front_html
from sfd_sweep.tracking.pictures import front_png, sweep_files
from sfd_sweep.trial.report import TrialState

DISTANCE = Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10)
ACCURACY = Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0)
ONE = ["objectives=[{metric: unlearning_accuracy, goal: maximize, reference_point: 0}]"]
THREE = ["objectives=" + "[{metric: fd_classifier, goal: minimize, reference_point: 10}, "
         "{metric: unlearning_accuracy, goal: maximize, reference_point: 0}, "
         "{metric: override_distance, goal: minimize, reference_point: 50}]"]  # fmt: skip

MIXED = (
    trial(0, 1.0, 0.90),
    trial(1, 2.0, 0.99),
    trial(2, 2.5, 0.80),
    trial(3, 0.5, 0.95, TrialState.PRUNED),
    trial(4, 3.0, 1.0, override_distance=100),
    trial(5, math.inf, math.nan),
    trial(6, 1.5, 0.7, TrialState.RUNNING),
)


@pytest.mark.parametrize("overrides", [ONE, [], THREE], ids=["one objective", "two", "three"])
@pytest.mark.parametrize(
    "trials", [(), MIXED[3:], MIXED[:1], MIXED], ids=["no trial", "none on the front", "one complete", "all kinds"]
)
def test_every_sweep_has_all_its_files(trials: tuple, overrides: list[str]) -> None:
    files = sweep_files(sweep(*trials, space=search_space("sqlite:///unused.db", *overrides)))
    assert set(files) == {"front.png", "front.html", "hypervolume.png", "importance.png", "trials.parquet"}
    for name, content in files.items():
        if name.endswith(".png"):
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                assert picture.width >= 1000


def test_a_picture_shows_its_front() -> None:
    def pixels_of_the_front(record: SweepRecord) -> int:
        picture = Image.open(io.BytesIO(front_png(record))).convert("RGB")
        return sum(count for count, color in picture.getcolors(1 << 24) if color == (0xC8, 0x55, 0x3D))

    assert pixels_of_the_front(sweep(*MIXED[2:5])) > 500
    assert pixels_of_the_front(sweep(MIXED[3], MIXED[4])) == 0


def test_the_page_tells_settings_and_needs_no_network() -> None:
    page = front_html(sweep(*MIXED))
    assert not re.findall(r"<(?:script|link)[^>]*\s(?:src|href)=", page)
    assert "generator_lr" in page
    assert "2,000 retained and 1,000 forgotten samples" in page
    (data,) = re.findall(r'Plotly\.newPlot\(\s*"[^"]+",\s*(\[.*?\]),\s*\{', page, flags=re.S)
    shown = {trace["name"]: trace for trace in json.loads(data) if "name" in trace}
    trials = {"front", "dominated", "infeasible", "pruned or stopped", "running"}
    assert set(shown) == trials | {"knee", "best score"}
    assert shown["front"]["hovertext"][0].startswith("<b>trial 0</b> (complete)")


def test_a_picture_says_how_many_trials_it_leaves_out() -> None:
    assert FrontView.all_of(sweep(*MIXED))[0].subtitle == (
        "7 trials: 1 running, 5 complete, 1 pruned, 1 outside the picture"
        "  ·  metrics on 2,000 retained and 1,000 forgotten samples"
    )
    assert "outside" not in FrontView.all_of(sweep(*MIXED[:5]))[0].subtitle


def test_the_border_of_the_front_runs_from_reference_to_reference() -> None:
    view = FrontView.all_of(sweep(*MIXED))[0]
    assert [x for x, _ in view.border] == [view.x.place(value) for value in (1.0, 1.0, 2.0, 10.0)]
    assert [y for _, y in view.border] == [view.y.place(value) for value in (0.0, 0.9, 0.99, 0.99)]


def test_values_beyond_the_reference_do_not_stretch_an_axis() -> None:
    assert within([1.0, 2.0, 11.0, math.inf, math.nan], DISTANCE) == [1.0, 2.0]
    assert within([11.0, math.inf], DISTANCE) == [11.0]
    assert within([math.nan], DISTANCE) == [10.0]
    assert within([-0.1, 0.5], ACCURACY) == [0.5]


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.5), (0.9, 4.0), (1.0, 9.9), (3.0, 300.0)])
def test_an_axis_over_large_factors_is_logarithmic_with_labels_to_read_it_by(low: float, high: float) -> None:
    axis = Axis.of(Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=1000), [low, high])
    assert axis.place(low * math.sqrt(high / low)) == pytest.approx((axis.place(low) + axis.place(high)) / 2)
    assert axis.ticks is not None
    assert 3 <= len(axis.ticks) <= 9
    assert all(place == pytest.approx(math.log10(float(label))) for place, label in axis.ticks.items())


def test_shares_close_to_one_are_drawn_apart() -> None:
    axis = Axis.of(ACCURACY, [0.2, 0.9, 0.99, 1.0])
    places = [axis.place(share) for share in (0.2, 0.9, 0.99, 1.0)]
    assert places == sorted(places)
    gaps = [after - before for before, after in pairwise(places)]
    assert min(gaps) > 0.15 * sum(gaps)
    assert math.isfinite(to_nines(1.0))


def test_other_axes_are_linear() -> None:
    assert Axis.of(ACCURACY, [0.2, 0.5]).place(0.3) == 0.3
    assert Axis.of(DISTANCE, [2.0, 4.0]).place(3.0) == 3.0


def test_a_value_of_zero_beyond_the_reference_lies_outside_a_logarithmic_axis() -> None:
    axis = Axis.of(Objective(metric="clip_score", goal=Goal.MAXIMIZE, reference_point=0.05), [0.0, 0.06, 0.3])
    assert axis.ticks
    assert not axis.holds(axis.place(0.0))
    assert axis.holds(axis.place(0.06))
