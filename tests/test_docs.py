"""What the documents say of the tree is true: paths, links, the picture of the floors, checks, versions."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

import diagram_ray

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "diagram_ray"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")]
DECISIONS = ROOT / "docs" / "decisions"
COMMANDS = {"prepare", "audit", "train", "report", "predict", "evaluate", "reproduce", "doctor"}
BASE = {"errors", "logs", "signals"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    if page.name != "CHANGELOG.md":  # which speaks of what was
        paths = set(re.findall(r"`([a-z_]+/[\w/]+\.(?:py|yaml|md|json))`", text))
        assert [path for path in sorted(paths) if not ((PACKAGE / path).exists() or (ROOT / path).exists())] == []


def test_the_rooms_on_the_page_are_the_packages_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([a-z_/]+)/` \|", text, re.MULTILINE))
    packages = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."}
    assert {name for name in named if not (PACKAGE / name).is_dir()} == set()
    covered = named | {name.rpartition("/")[0] for name in named}
    assert {name for name in packages if name not in covered and name.rpartition("/")[0] not in named} == set()


def _drawn() -> dict[str, set[str]]:
    """Who imports whom, by the picture."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    picture = text.partition("```mermaid\n")[2].partition("```")[0]
    arrows: dict[str, set[str]] = defaultdict(set)
    for line in re.sub(r'\[".*?"\]', "", picture).splitlines()[1:]:
        source, targets = line.split("-->")
        arrows[source.strip()] |= {target.strip() for target in targets.split("&")}
    return arrows


def _below(floor: str, arrows: dict[str, set[str]]) -> set[str]:
    return arrows[floor] | {further for target in arrows[floor] for further in _below(target, arrows)}


def test_the_picture_shows_the_imports_there_are() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("diagram_ray", cache_dir=None)
    imports = {
        (_floor(module), _floor(other))
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    }
    imports = {(one, other) for one, other in imports if one and other and one != other}
    arrows = _drawn()
    drawn = {(one, other) for one, others in list(arrows.items()) for other in others}
    assert drawn - imports == set()
    assert {(one, other) for one, other in imports if other not in _below(one, arrows)} == set()


def _floor(module: str) -> str:
    name = f"{module}..".split(".")[1]
    return "commands" if name in COMMANDS else "base" if name in BASE else name.replace("__main__", "")


def test_every_decision_is_in_the_index_with_its_own_title() -> None:
    index = (DECISIONS / "README.md").read_text("utf-8")
    files = sorted(DECISIONS.glob("0*.md"))
    titles = [path.read_text("utf-8").splitlines()[0].removeprefix("# ").split(". ", 1) for path in files]
    assert [int(number) for number, _ in titles] == list(range(1, len(files) + 1))
    rows = [f"| [{number}]({path.name}) | {title} |" for path, (number, title) in zip(files, titles, strict=True)]
    assert [row for row in index.splitlines() if row.startswith("| [")] == rows


def test_a_commit_is_checked_by_what_make_lint_runs() -> None:
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nlint: install\n")[2].partition("\n\n")[0]
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == lint
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project["version"] == diagram_ray.__version__
    assert citation["license"] == project["license"]
    assert citation["references"][0]["doi"] == "10.1007/978-3-030-00934-2_95"
