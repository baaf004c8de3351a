"""Pictures for every sweep that there can be."""

import io
import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from recorded import sweep, trial
from tracked_sweep import report, search_space

from sfd_sweep.config import Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.front_view import Axis, FrontView, to_nines, within
from sfd_sweep.tracking.pictures import front_png, hypervolume_png, sweep_files
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
    assert set(files) == {"front.png", "hypervolume.png", "importance.png", "trials.parquet"}
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


def test_a_picture_says_how_many_trials_it_leaves_out() -> None:
    assert FrontView.panels_of(sweep(*MIXED))[0].subtitle == (
        "7 trials: 1 running, 5 complete, 1 pruned, 1 outside the picture"
        "  ·  metrics on 2,000 retained and 1,000 forgotten samples"
    )
    assert "outside" not in FrontView.panels_of(sweep(*MIXED[:5]))[0].subtitle


def test_the_border_of_the_front_runs_from_reference_to_reference() -> None:
    view = FrontView.panels_of(sweep(*MIXED))[0]
    assert [x for x, _ in view.border] == [view.axes[0].place(value) for value in (1.0, 1.0, 2.0, 10.0)]
    assert [y for _, y in view.border] == [view.axes[1].place(value) for value in (0.0, 0.9, 0.99, 0.99)]


def test_pictures_of_a_front_that_was_judged_show_its_final_figures() -> None:
    finals = report(20, 3.0, 0.95, samples=10000), report(20, 2.0, 0.98, samples=10000)
    judged = [replace(member, final=final) for member, final in zip(MIXED[:2], finals, strict=True)]
    record = sweep(*judged, MIXED[2], space=search_space("sqlite:///unused.db", *ERRORS))
    view = FrontView.page_of(record)
    groups = {group.label: [view.place(mark)[0] for mark in group.marks] for group in view.groups}
    samples = "{} retained and 1,000 forgotten samples".format
    assert view.subtitle.endswith(f"metrics on {samples('2,000')}, the front on {samples('10,000')}")
    assert [x for x, _ in view.border] == [view.axes[0].place(value) for value in (2.0, 2.0, 10.0)]
    assert groups["front"] == [view.axes[0].place(2.0)]
    assert groups["dominated"] == [view.axes[0].place(3.0), view.axes[0].place(2.5)]
    error = 0.5 / 5**0.5  # of five times the samples
    ((_, above), _) = view.reach(view.groups[0].marks[0])
    assert above == pytest.approx(view.axes[0].place(2 + error) - view.axes[0].place(2))
    assert hypervolume_png(record) != hypervolume_png(sweep(*MIXED[:3]))


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


FORGOTTEN = "selection={min: {unlearning_accuracy: 0.95}}"
SWAP = report(0, 0.6, 1.0, override_distance=1.07)


def many(count: int, *overrides: str) -> SweepRecord:
    """A sweep with a long front in three objectives."""
    random = np.random.default_rng(0)
    trials = [
        trial(number, 0.5 + 3 * share**2, 1 - 0.4 * (1 - share) ** 3, override_distance=40 - 30 * share * noise)
        for number, (share, noise) in enumerate(zip(random.random(count), random.uniform(0.9, 1, count), strict=True))
    ]
    space = search_space("sqlite:///unused.db", *overrides)
    return replace(sweep(*trials, space=space), swap=SWAP)


def figure_of(record: SweepRecord, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure behind a picture of the front, laid out."""
    found: list[Figure] = []
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, *_, **__: found.append(self))
        front_png(record)
    found[0].draw_without_rendering()
    return found[0]


def test_three_objectives_make_a_panel_for_each_pair_with_the_third_in_color(monkeypatch: pytest.MonkeyPatch) -> None:
    record = many(20, *THREE)
    names = [part.metric for part in record.space.objectives]
    views = FrontView.panels_of(record)
    assert [tuple(part.metric for part in view.shown) for view in views] == list(combinations(names, 2))
    assert [view.shade.metric for view in views if view.shade] == names[::-1]
    figure = figure_of(record, monkeypatch)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert [label.split()[1] for label in labels if label.startswith("color: ")] == names[::-1]


def test_colors_order_trials_by_the_third_objective() -> None:
    view = FrontView.panels_of(many(20, *THREE))[0]
    marks = next(group for group in view.groups if group.label == "front").marks
    by_value = sorted(marks, key=lambda mark: mark.report.metrics["override_distance"])
    shades = [view.shade_of(mark) for mark in by_value]
    assert shades == sorted(shades)


@pytest.mark.parametrize("overrides", [[], THREE], ids=["two objectives", "three"])
def test_labels_of_a_long_front_cover_neither_each_other_nor_a_mark(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = many(40, *overrides)
    figure = figure_of(record, monkeypatch)
    renderer = figure.canvas.get_renderer()
    panels = [axes for axes in figure.axes if axes.texts]
    assert len(panels) == len(FrontView.panels_of(record))
    for panel, view in zip(panels, FrontView.panels_of(record), strict=False):
        boxes = [Text.get_window_extent(text, renderer) for text in panel.texts]  # without their leaders
        assert len(boxes) >= 0.8 * len(record.front)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        marks = [panel.transData.transform(view.place(mark)) for group in view.groups for mark in group.marks]
        assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_the_front_is_told_apart_by_what_counts_as_forgotten() -> None:
    record = sweep(*MIXED, space=search_space("sqlite:///unused.db", FORGOTTEN))
    groups = {group.label: group for group in FrontView.panels_of(record)[0].groups}
    assert [mark.number for mark in groups["front, forgotten"].marks] == [1]
    assert [mark.number for mark in groups["front, not forgotten"].marks] == [0]
    assert "front" not in groups
    assert [mark.number for mark in groups["knee"].marks] == [1]


@pytest.mark.parametrize("overrides", [ONE, [], THREE], ids=["one objective", "two", "three"])
def test_the_null_baseline_is_a_hollow_mark_within_every_picture(overrides: list[str]) -> None:
    record = replace(sweep(*MIXED, space=search_space("sqlite:///unused.db", *overrides)), swap=SWAP)
    for view in (*FrontView.panels_of(record), FrontView.page_of(record)):
        (swap,) = [group for group in view.groups if group.label.startswith("swap")]
        assert not swap.is_filled
        (mark,) = swap.marks
        assert all(axis.holds(place) for axis, place in zip(view.axes, view.place(mark), strict=True))
    without = FrontView.page_of(replace(record, swap=None))
    assert not any(group.label.startswith("swap") for group in without.groups)


def test_a_null_baseline_beyond_the_reference_point_is_said_to_be_outside() -> None:
    record = replace(sweep(*MIXED), swap=report(0, 11.0, 1.0))
    assert ", 1 outside the picture, swap outside the picture  ·" in FrontView.panels_of(record)[0].subtitle


def test_a_value_of_zero_beyond_the_reference_lies_outside_a_logarithmic_axis() -> None:
    axis = Axis.of(Objective(metric="clip_score", goal=Goal.MAXIMIZE, reference_point=0.05), [0.0, 0.06, 0.3])
    assert axis.ticks
    assert not axis.holds(axis.place(0.0))
    assert axis.holds(axis.place(0.06))


ERRORS = ["objectives.0.error=0.5", "objectives.1.error=0.02"]


def test_members_of_the_front_have_bars_of_the_stated_errors() -> None:
    plain, stated = (sweep(*MIXED, space=search_space("sqlite:///unused.db", *changes)) for changes in ([], ERRORS))
    view = FrontView.page_of(stated)
    above = [math.log10(1.0 + 0.5) - math.log10(1.0), math.log10(2.0 + 0.5) - math.log10(2.0)]  # on a logarithmic axis
    assert [view.reach(mark)[0][1] for mark in view.groups[0].marks] == pytest.approx(above)
    assert front_png(plain) != front_png(stated)


def test_a_bar_ends_at_the_range_of_its_metric() -> None:
    record = sweep(trial(0, 0.2, 0.995), space=search_space("sqlite:///unused.db", *ERRORS))
    view = FrontView.page_of(record)
    (_, up), (below, _) = view.reach(view.groups[0].marks[0])[1], view.reach(view.groups[0].marks[0])[0]
    assert up == pytest.approx(view.axes[1].place(1.0) - view.axes[1].place(0.995))
    assert below == pytest.approx(view.axes[0].place(0.2) - view.axes[0].place(0.0))


@pytest.mark.parametrize("overrides", [ONE, [], THREE], ids=["one objective", "two", "three"])
def test_pictures_with_errors_have_any_number_of_objectives(overrides: list[str]) -> None:
    record = sweep(*MIXED, space=search_space("sqlite:///unused.db", *overrides, "objectives.0.error=0.05"))
    assert front_png(record)
