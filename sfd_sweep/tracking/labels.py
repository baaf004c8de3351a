"""Labels beside the marks of a panel, without overlaps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from sfd_sweep.tracking.front_view import INK, MUTED

FONT_SIZE = 8
DIGIT_WIDTH, HEIGHT = 0.64 * FONT_SIZE, float(FONT_SIZE)
"""Extent of a digit, in points."""
GAP = 0.5
DISTANCES = (8.0, 12.0, 18.0, 26.0, 36.0, 48.0)
"""Between a mark and its label, in points; the nearest free place is taken."""
DIRECTIONS = 16
LEADER_FROM = 15.0
"""Labels beyond this distance have a line to their mark."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Obstacle:
    """A mark that no label covers.

    Attributes:
        place: in data coordinates.
        radius: in points.
    """

    place: Point
    radius: float


def write_labels(
    panel: Axes, labels: Sequence[tuple[str, Point]], obstacles: Sequence[Obstacle], toward: tuple[int, int]
) -> None:
    """Write texts beside points of a panel that is laid out.

    No label covers another one, a mark, or the edge of the panel. A label without a free place nearby is left out.

    Args:
        panel: the panel.
        labels: texts of digits, with their points in data coordinates.
        obstacles: all marks.
        toward: signs of the corner that labels are nearest to, if there is room.
    """
    points = 72 / panel.figure.dpi
    inside = Bbox(panel.bbox.get_points() * points)
    taken = [_square(_in_points(panel, each.place), each.radius) for each in obstacles if _is_in(panel, each.place)]
    for text, place in labels:
        anchor = _in_points(panel, place)
        for box, distance in _places(anchor, text, toward):
            free = not any(box.overlaps(other) for other in taken)
            if free and _within(inside, box):
                _write(panel, text, place, _offset(anchor, box), has_leader=distance >= LEADER_FROM)
                taken.append(box.padded(GAP))
                break


def _places(anchor: Point, text: str, toward: tuple[int, int]) -> Iterator[tuple[Bbox, float]]:
    """Yield boxes for a text around a point, with their distance, the best ones first."""
    width, height = DIGIT_WIDTH * len(text), HEIGHT
    first = math.atan2(toward[1], toward[0])
    for distance in DISTANCES:
        for turn in range(DIRECTIONS):
            angle = first + (-1) ** turn * math.ceil(turn / 2) * 2 * math.pi / DIRECTIONS
            x = anchor[0] + math.cos(angle) * (distance + width / 2)
            y = anchor[1] + math.sin(angle) * (distance + height / 2)
            yield Bbox.from_bounds(x - width / 2, y - height / 2, width, height), distance


def _write(panel: Axes, text: str, place: Point, offset: Point, *, has_leader: bool) -> None:
    leader = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4} if has_leader else None
    label = panel.annotate(
        text,
        place,
        offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=FONT_SIZE,
        color=INK,
        zorder=8,
        arrowprops=leader,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
    label.set_in_layout(False)


def _offset(anchor: Point, box: Bbox) -> Point:
    return (box.x0 + box.x1) / 2 - anchor[0], (box.y0 + box.y1) / 2 - anchor[1]


def _square(center: Point, radius: float) -> Bbox:
    return Bbox.from_bounds(center[0] - radius, center[1] - radius, 2 * radius, 2 * radius)


def _is_in(panel: Axes, place: Point) -> bool:
    x, y = panel.transData.transform(place)
    return bool(all(map(math.isfinite, place)) and panel.bbox.contains(x, y))


def _in_points(panel: Axes, place: Point) -> Point:
    x, y = panel.transData.transform(place) * 72 / panel.figure.dpi
    return float(x), float(y)


def _within(outer: Bbox, box: Bbox) -> bool:
    return bool(outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1)
