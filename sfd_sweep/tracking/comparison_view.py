"""What a picture of a comparison shows, whichever library draws it: attainment surfaces, and progress over cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.search.comparison import QUARTERS, Comparison, Progress
from sfd_sweep.search.grouping import Group
from sfd_sweep.tracking.front_view import Axis, Limits

COLORS = ("#3d6b99", "#c8553d", "#0b7a75", "#8d6b94", "#b7791f", "#5b8c3a", "#a23b72", "#4a5568")
"""Colors of groups; more groups repeat them with other dashes."""
DASHES = ("solid", "dash", "dot")
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
ENOUGH_UNITS = 3.0
"""Least length of an axis of time in its unit."""
MARGIN = 0.05
LONGEST_TITLE = 60

Path = list[tuple[float, float]]
"""Corners of a line, in coordinates of the axes."""


@dataclass(frozen=True)
class Band:
    """The median of a group as a line, and what lies between its quartiles as an area.

    Attributes:
        points: of single runs, that the lines are made of.
    """

    line: Path
    area: Path
    points: Path


@dataclass(frozen=True)
class Look:
    """The color and dash of a group."""

    label: str
    color: str
    dash: str


@dataclass(frozen=True)
class Panel:
    """Two axes and a band for each group; no band where a group has nothing within the reference point.

    Attributes:
        title: of the panel.
        across: title of the axis; `up` likewise.
        limits: of both axes.
        ticks: labels by coordinate, of both axes; empty where the library's own fit.
        bands: of the groups, in their order.
        level: a horizontal line and its label, if there is one.
    """

    title: str
    across: str
    up: str
    limits: tuple[Limits, Limits]
    ticks: tuple[dict[float, str], dict[float, str]]
    bands: tuple[Band, ...]
    level: tuple[float, str] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no group has anything to show."""
        return not any(band.line or band.area or band.points for band in self.bands)


@dataclass(frozen=True)
class ComparisonView:
    """The panels of a comparison: one for each pair of objectives, and one of the hypervolume over slot time."""

    comparison: Comparison

    @property
    def title(self) -> str:
        """What is compared."""
        by, names, listed = self.comparison.by, self.comparison.names, " · ".join(self._labels)
        if by:
            return f"{names[0] if len(names) == 1 else f'{len(names)} sweeps'} by {by}"
        return listed if len(listed) <= LONGEST_TITLE else f"{len(self._labels)} groups of {len(names)} sweeps"

    @property
    def subtitle(self) -> str:
        """How to read lines and areas."""
        seeds = {len(part.runs) for part in self.comparison.groups}
        if seeds == {1}:
            lines = "lines: what one run attains"
        else:
            lines = "lines: what half of the seeds attain, areas: a quarter to three quarters"
        return f"{lines}  ·  {self.comparison.figures_in_words()}"

    @property
    def looks(self) -> list[Look]:
        """The look of each group, in their order."""
        return [
            Look(f"{label} ({len(part.runs)} seed{'s' * (len(part.runs) != 1)})", *_color_and_dash(index))
            for index, (label, part) in enumerate(zip(self._labels, self.comparison.groups, strict=True))
        ]

    @cached_property
    def panels(self) -> list[Panel]:
        """The panels, of which the last is that of the hypervolume."""
        pairs = combinations(range(len(self.comparison.objectives)), 2)
        return [*(self._surfaces(pair) for pair in pairs), self._progress()]

    @property
    def _labels(self) -> list[str]:
        name = f"{self.comparison.by.rpartition('.')[2]} " if self.comparison.by else ""
        return [f"{name}{part.label}" for part in self.comparison.groups]

    def _surfaces(self, pair: tuple[int, int]) -> Panel:
        axes = self._axes(pair)
        others = len(self.comparison.objectives) > 2
        return Panel(
            title="attainment, whatever the other objectives are" if others else "attainment",
            across=axes[0].title,
            up=axes[1].title,
            limits=(axes[0].limits, axes[1].limits),
            ticks=(dict(axes[0].ticks), dict(axes[1].ticks)),
            bands=tuple(self._surface(part, pair, axes) for part in self.comparison.groups),
        )

    def _axes(self, pair: tuple[int, int]) -> tuple[Axis, Axis]:
        one, other = (self._axis(index) for index in pair)
        return one, other

    def _axis(self, index: int) -> Axis:
        objective = self.comparison.objectives[index]
        runs = [run for part in self.comparison.groups for run in part.runs]
        return Axis.of(objective, [run.figures(trial).metrics[objective.metric] for run in runs for trial in run.front])

    def _surface(self, part: Group, pair: tuple[int, int], axes: tuple[Axis, Axis]) -> Band:
        reference = [self.comparison.objectives[index].reference_point for index in pair]
        corner = axes[0].place(reference[0]), axes[1].place(reference[1])
        quarter, half, most = (
            _corners(_placed(self.comparison.surface_values(part, pair, share), axes), corner) for share in QUARTERS
        )
        points = np.concatenate(self.comparison.fronts(part))[:, list(pair)] * self.comparison.signs[list(pair)]
        is_band = len(part.runs) > 1 and len(quarter) > 1
        area = quarter + most[::-1] if is_band else []
        return Band(half if len(half) > 1 else [], area, _placed(points, axes))

    def _progress(self) -> Panel:
        groups = [self.comparison.progress(part) for part in self.comparison.groups]
        longest = max((float(run.seconds[-1]) for runs in groups for run in runs if len(run.seconds)), default=0.0)
        unit, seconds = next((each for each in UNITS if longest >= ENOUGH_UNITS * each[1]), UNITS[-1])
        highest = max((run.last for runs in groups for run in runs), default=0.0) or 1.0
        target = self.comparison.target
        return Panel(
            title="progress of the search",
            across=f"slot {unit}   ← better",
            up="hypervolume   better →",
            limits=((0.0, (longest / seconds or 1.0) * (1 + MARGIN)), (0.0, highest * (1 + MARGIN))),
            ticks=({}, {}),
            bands=tuple(_progress_band(runs, seconds) for runs in groups),
            level=(target, "common") if target > 0 else None,
        )


def _progress_band(runs: Sequence[Progress], unit: float) -> Band:
    """Return the median and the quartiles of the runs' hypervolume over time; it stays when a run has ended."""
    times = np.unique(np.concatenate([run.seconds for run in runs]))
    volumes = [np.array([0.0, *run.hypervolume])[np.searchsorted(run.seconds, times, side="right")] for run in runs]
    low, median, high = (_steps(times / unit, line) for line in np.quantile(volumes, QUARTERS, axis=0))
    return Band(median, low + high[::-1] if len(runs) > 1 else [], [])


def _steps(times: NDArray[np.float64], values: NDArray[np.float64]) -> Path:
    path, height = [(0.0, 0.0)], 0.0
    for time, value in zip(times.tolist(), values.tolist(), strict=True):
        path += [(time, height), (time, value)]
        height = value
    return path


def _color_and_dash(index: int) -> tuple[str, str]:
    return COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]


def _placed(values: NDArray[np.float64], axes: tuple[Axis, Axis]) -> Path:
    return [(axes[0].place(float(x)), axes[1].place(float(y))) for x, y in values]


def _corners(points: Sequence[tuple[float, float]], corner: tuple[float, float]) -> Path:
    """Return the border of what points attain, from one side of the reference point's box to the other.

    Points are ordered by the first objective, the best first, so that the second one becomes better along them.
    """
    path: Path = []
    height = corner[1]
    for x, y in points:
        path += [(x, height), (x, y)]
        height = y
    return [*path, (corner[0], height)]
