"""Draw the figures of the architecture page: the subpackages and their order, and the life of a trial.

    python docs/draw_architecture.py

The order of the subpackages is that of the import contract in `pyproject.toml`.
"""

import tomllib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
CONTRACTS = DOCS.parent / "pyproject.toml"

SUBPACKAGES = {
    "cli": "commands, tables, exit codes",
    "export": "diffusers folder, model card, verification",
    "execution": "Ray: cluster, slots, broker, workers, driver",
    "tracking": "MLflow: recorder, reader, results, plots",
    "search": "study, samplers, schedulers, Pareto front, budget",
    "teachers": "pretraining, classifiers, imports, distillation",
    "trial": "resolved sweep, context, runner, files, report",
    "audit": "attacks, controls, judge, intervals, report",
    "evaluation": "evaluator, classifiers, features, references",
    "method": "losses, trainer, batch, generator, LoRA",
    "models": "families, schedule, samplers, model folders",
    "datasets": "digits, Parquet, folders, prompts",
    "storage": "folders and buckets, journal, lease, lock",
    "config": "search-space schema, parameters, settings",
    "metrics": "definition of every metric",
}
"""What each subpackage holds."""

WITHOUT_TORCH = {"cli", "search", "tracking", "storage", "config", "metrics"}
LIBRARIES = {"execution": "Ray", "tracking": "MLflow", "search": "Optuna", "models": "diffusers", "cli": "Typer"}

LANES = ("search", "Ray Tune", "broker", "slot worker", "storage", "tracking")
SEARCH, TUNE, BROKER, WORKER, STORAGE, TRACKING = range(len(LANES))
STEPS: tuple[tuple[int, int, str], ...] = (
    (TUNE, SEARCH, "next settings?"),
    (SEARCH, TUNE, "trial number, settings"),
    (TUNE, BROKER, "train to step n"),
    (BROKER, WORKER, "command"),
    (STORAGE, WORKER, "training state, if any"),
    (WORKER, WORKER, "method: updates to step n"),
    (WORKER, WORKER, "evaluation: metrics, sample grid"),
    (WORKER, STORAGE, "checkpoint, report"),
    (WORKER, BROKER, "report"),
    (BROKER, TUNE, "report"),
    (TUNE, SEARCH, "report: continue?"),
    (TUNE, TRACKING, "metrics, grid, front"),
)

BLUE, GRAY, INK, LINE = "#e3ecfa", "#f1f1ef", "#222222", "#8a94a6"
STYLE = "font-family: 'DejaVu Sans', Verdana, sans-serif"


def layers() -> list[list[str]]:
    """Return the subpackages by layer, the topmost first, from the contract on layers."""
    contracts = tomllib.loads(CONTRACTS.read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["type"] == "layers")
    rows = ([name.strip() for name in layer.split("|")] for layer in contract["layers"])
    return [row for row in rows if all(name in SUBPACKAGES for name in row)]


def text(
    x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", bold: bool = False, on_line: bool = False
) -> str:
    """Return a line of text; on a line it gets a white outline."""
    weight = ' font-weight="bold"' if bold else ""
    style = f'font-size="{size}" text-anchor="{anchor}"{weight} fill="{INK}"'
    if on_line:
        style += ' stroke="white" stroke-width="5" paint-order="stroke"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, color: str) -> str:
    """Return a rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{color}" stroke="{LINE}"/>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return an arrow."""
    return f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{INK}" marker-end="url(#head)"/>'


def picture(width: float, height: float, parts: Sequence[str]) -> str:
    """Return an SVG document."""
    head = '<marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" style="{STYLE}">',
            f'<defs>{head}<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def subpackages_svg() -> str:
    """Draw one row for each layer, the topmost first."""
    width, height, gap, left, top = 760.0, 44.0, 8.0, 20.0, 34.0
    rows = layers()
    parts = [text(left, 22, "A subpackage imports only from those below it. Importing a gray one loads no torch.")]
    for number, row in enumerate(rows):
        y = top + number * (height + gap)
        each = (width - gap * (len(row) - 1)) / len(row)
        for place, name in enumerate(row):
            x = left + place * (each + gap)
            parts.append(box(x, y, each, height, GRAY if name in WITHOUT_TORCH else BLUE))
            parts.append(text(x + 12, y + 19, name, size=14, bold=True))
            parts.append(text(x + 12, y + 36, SUBPACKAGES[name], size=12))
            if name in LIBRARIES:
                parts.append(text(x + each - 12, y + 27, LIBRARIES[name], size=12, anchor="end"))
    return picture(width + 2 * left, top + len(rows) * (height + gap) + 12, parts)


def trial_svg() -> str:
    """Draw a lane for each part of a sweep, and an arrow for each message."""
    spacing, left, top, height = 150.0, 80.0, 60.0, 38.0
    lanes = [left + spacing * lane for lane in range(len(LANES))]
    bottom = top + height * (len(STEPS) + 0.6)
    parts = []
    for x, name in zip(lanes, LANES, strict=True):
        parts.append(f'<line x1="{x:g}" y1="44" x2="{x:g}" y2="{bottom:g}" stroke="{LINE}" stroke-dasharray="4 4"/>')
        parts.append(box(x - 60, 14, 120, 30, BLUE if name == "slot worker" else GRAY))
        parts.append(text(x, 34, name, anchor="middle", bold=True))
    parts += [
        part for number, step in enumerate(STEPS) for part in message(lanes, top + height * (number + 0.7), *step)
    ]
    return picture(lanes[-1] + left, bottom + 16, parts)


def message(lanes: Sequence[float], y: float, sender: int, receiver: int, words: str) -> Iterator[str]:
    """Yield an arrow with its text above it; what a part does by itself is a box on its lane."""
    start, end = lanes[sender], lanes[receiver]
    if sender == receiver:
        yield box(start - 120, y - 20, 240, 26, BLUE)
        yield text(start, y - 2, words, size=12, anchor="middle")
        return
    yield text((start + end) / 2, y - 6, words, size=12, anchor="middle", on_line=True)
    yield arrow(start, y, end, y)


def main() -> None:
    """Write both figures."""
    for name, drawing in (("subpackages", subpackages_svg()), ("trial", trial_svg())):
        (DOCS / f"{name}.svg").write_text(drawing)


if __name__ == "__main__":
    main()
