"""What the documentation says about files, commands, and names is true of the repository."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import typer.main
from ruamel.yaml import YAML

from sfd_sweep.cli.app import app
from sfd_sweep.config.loading import load_search_space

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "cluster").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?m)^\s*(?:\$ )?sfd-sweep (.+)$|`sfd-sweep ([^`]+)`")
PATH = re.compile(r"`((?:sfd_sweep|tests|benchmarks|docs|examples|search_spaces|cluster)/[\w./-]+)`")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
MAKE = re.compile(r"(?m)^\s*make ([a-z-]+)|`make ([a-z-]+)`")
SCRIPT = re.compile(r"python ((?:benchmarks|docs)/\w+\.py)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def heading_ids(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not heading or heading in heading_ids(target), link


@every_page
def test_paths_exist(page):
    for path in PATH.findall(page.read_text()):
        assert (ROOT / path).exists(), path


@every_page
def test_commands_and_their_options_exist(page):
    commands = typer.main.get_command(app).commands
    for on_line, in_text in COMMAND.findall(page.read_text()):
        words = (on_line or in_text).partition("#")[0]
        name = words.split()[0]
        if name.startswith("--"):
            continue
        assert name in commands, words
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
        assert set(OPTION.findall(words)) <= known, words


@every_page
def test_make_targets_and_scripts_exist(page):
    text, makefile = page.read_text(), (ROOT / "Makefile").read_text()
    for target in map("".join, MAKE.findall(text)):
        assert f"\n{target}:" in makefile, target
    for script in SCRIPT.findall(text):
        assert (ROOT / script).is_file(), script


def test_every_page_of_documentation_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in navigation


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_the_search_space_of_the_readme_is_valid(tmp_path):
    (excerpt,) = re.findall(r"(?s)```yaml\n(.+?)```", (ROOT / "README.md").read_text())
    (tmp_path / "excerpt.yaml").write_text(excerpt)
    assert load_search_space(tmp_path / "excerpt.yaml").name == "digits-forget-0"


def test_pictures_are_small_and_used():
    text = "".join(page.read_text() for page in PAGES)
    for picture in (path for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".gif", ".svg")):
        assert picture.stat().st_size < 1_000_000
        assert picture.name in text


def test_figures_of_the_architecture_are_those_that_the_script_draws():
    specification = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "draw_architecture.py")
    figures = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(figures)
    assert (ROOT / "docs" / "subpackages.svg").read_text() == figures.subpackages_svg()
    assert (ROOT / "docs" / "trial.svg").read_text() == figures.trial_svg()


def test_every_subpackage_is_in_the_figure_and_in_a_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    listed = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    assert contract["exhaustive"]
    drawn = (ROOT / "docs" / "subpackages.svg").read_text()
    for name in (path.parent.name for path in (ROOT / "sfd_sweep").glob("*/__init__.py")):
        assert name in listed
        assert f">{name}<" in drawn


def test_dependencies_are_pinned_for_development():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in constraints()}
    names = {re.split(r"[<>=\[]", each)[0].lower().replace("_", "-") for each in wanted}
    assert names - {"sfd-sweep"} <= pinned


def test_constraints_pin_one_version_each():
    names = [line.partition("==")[0].lower() for line in constraints()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in constraints())


def constraints() -> list[str]:
    return (ROOT / ".ci" / "constraints.txt").read_text().split()


def test_forms_and_citation_are_valid_yaml():
    files = [*(ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"), ROOT / "CITATION.cff"]
    for path in (*files, ROOT / ".pre-commit-config.yaml"):
        assert YAML(typ="safe").load(path), path


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert YAML(typ="safe").load(ROOT / "CITATION.cff")["version"] == version
    assert re.search(rf"(?m)^## {re.escape(version)}$", (ROOT / "CHANGELOG.md").read_text())


def test_python_examples_of_the_readme_compile():
    for block in re.findall(r"(?s)```python\n(.+?)```", (ROOT / "README.md").read_text()):
        compile(block, "README.md", "exec")


def test_notebooks_hold_only_python_cells_that_compile():
    for path in (ROOT / "examples").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                compile("".join(cell["source"]), path.name, "exec")
