"""Print the size of the code by subpackage, the branches on the model family, and the length of the README.

    python docs/code_size.py [FOLDER]

FOLDER is a checkout of the repository. A line of code holds more than a comment, a docstring, or white space.
"""

import argparse
import ast
import io
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
TOP_LEVEL = "top level"
COMPARISONS = {
    ("prompts", None),
    ("kind", "class"),
    ("kind", "concept"),
    ("kind", "CLASSES"),
    ("kind", "PROMPTS"),
    ("argument", "labels"),
    ("argument", "prompt"),
}
"""Comparisons that ask for the model family: the name on the left, and the value or name on the right."""


@dataclass(frozen=True)
class Size:
    """What one file holds.

    Attributes:
        lines: all lines.
        code: lines with code.
        docstrings: lines of docstrings, those of attributes among them.
        branches: expressions that ask for the model family (`family_branches`).
        functions: lines of each function.
    """

    lines: int
    code: int
    docstrings: int
    branches: int
    functions: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "Size":
        """Measure a file."""
        text = path.read_text()
        tree = ast.parse(text)
        documentation = docstring_lines(tree)
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        return cls(
            lines=len(text.splitlines()),
            code=len(code_lines(text) - documentation),
            docstrings=len(documentation),
            branches=sum(map(family_branches, ast.walk(tree))),
            functions=tuple((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions),
        )


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines that hold more than comments and white space."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {line for token in tokens if token.type not in LAYOUT for line in range(token.start[0], token.end[0] + 1)}


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines of all strings that stand alone."""
    strings = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
    return {line for node in strings for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def family_branches(node: ast.AST) -> int:
    """Return how many times an expression, without its parts, asks for the model family.

    It asks by reading `reads_text` or `has_labeled_references`, by comparing (`COMPARISONS`), or by the truth of the
    attribute `prompts` or `libraries`.
    """
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        return name_of(node) in {"reads_text", "has_labeled_references"}
    if isinstance(node, ast.Compare):
        other = node.comparators[0]
        value = other.value if isinstance(other, ast.Constant) else name_of(other)
        return (name_of(node.left), value) in COMPARISONS
    return sum(isinstance(part, ast.Attribute) and part.attr in {"prompts", "libraries"} for part in tested(node))


def tested(node: ast.AST) -> list[ast.expr]:
    """Return the parts of a node whose truth is asked."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.UnaryOp(op=ast.Not(), operand=test):
            return [test]
        case ast.BoolOp(values=values):
            return values
        case _:
            return []


def name_of(node: ast.AST) -> str | None:
    """Return the last part of a name."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)


def measure(folder: Path) -> dict[str, list[Size]]:
    """Measure the files of the package, by subpackage."""
    package = folder / "sfd_sweep"
    subpackages: dict[str, list[Size]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        if parts[0] != "assets":
            subpackages[parts[0] if len(parts) > 1 else TOP_LEVEL].append(Size.of(path))
    return subpackages


def table(subpackages: dict[str, list[Size]]) -> Iterator[str]:
    """Yield the rows of a Markdown table."""
    yield "| subpackage | files | lines | code | docstrings | branches on the family |"
    yield "| --- | --- | --- | --- | --- | --- |"
    everything = [size for found in subpackages.values() for size in found]
    for name, sizes in [*subpackages.items(), ("all", everything)]:
        sums = (sum(getattr(size, field) for size in sizes) for field in ("lines", "code", "docstrings", "branches"))
        yield f"| {name} | {len(sizes)} | {' | '.join(f'{each:,}' for each in sums)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent.parent)
    folder = parser.parse_args().folder
    subpackages = measure(folder)
    print("\n".join(table(subpackages)))
    sizes = [size for found in subpackages.values() for size in found]
    functions = [lines for size in sizes for lines in size.functions]
    print(f"\nfiles under 60 lines: {sum(size.lines < 60 for size in sizes)}")
    middle, high = statistics.median(functions), statistics.quantiles(functions, n=10)[-1]
    print(f"lines of a function: median {middle:.0f}, 90 % quantile {high:.0f}, longest {max(functions)}")
    print(f"words of the README: {len((folder / 'README.md').read_text().split())}")


if __name__ == "__main__":
    main()
