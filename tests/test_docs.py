"""What the documentation says is there is there, and what is there is documented."""

import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import typer

from flows.cli.app import app
from reelcheck.errors import SettingsError
from reelcheck.settings import load_settings
from reelcheck.status import Status
from tasks.scoring.words import FLAG_WORDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
MAX_README_WORDS = 900
MAX_IMAGE_BYTES = 300_000
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
_FILE = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|toml|md))`")
_NAMED = re.compile(r"\bname=\"([^\"]+)\"")


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text_of(page)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def diagrams_of(page: str) -> str:
    return "\n".join(re.findall(r"```mermaid\n(.*?)```", text_of(ROOT / page), re.DOTALL))


@pytest.mark.parametrize("name", ["commands.md", "settings.md", "tables.md"])
def test_reference_page_is_what_the_code_says(name: str) -> None:
    assert text_of(ROOT / "docs" / name) == generator().generate_pages()[name], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_file_of_a_page_exists(page: Path) -> None:
    text = _FENCED.sub("", text_of(page))
    wrong = []
    for target in ("".join(found) for found in _LINK.findall(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else (page.parent / name).resolve()
        is_there = file.exists() and (not anchor or anchor in anchors_of(file))
        wrong += [] if is_there else [target]
    wrong += [name for name in _FILE.findall(text) if not (ROOT / name).exists()]
    assert wrong == []


def test_every_page_is_in_the_index() -> None:
    index = text_of(ROOT / "docs" / "README.md")
    pages = {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"}
    assert {name for name in pages if f"({name}" not in index} == set()


def test_every_image_is_shown_and_small() -> None:
    texts = "".join(map(text_of, PAGES))
    images = sorted((ROOT / "docs" / "images").iterdir())
    assert images
    assert [image.name for image in images if f"images/{image.name}" not in texts] == []
    assert [image.name for image in images if image.stat().st_size > MAX_IMAGE_BYTES] == []


def test_readme_can_be_read_in_a_few_minutes() -> None:
    text = text_of(ROOT / "README.md")
    assert len(text.split()) <= MAX_README_WORDS
    for promised in ("git clone", "make demo", "make test", "synthetic"):
        assert promised in text


def test_every_command_and_settings_section_is_documented() -> None:
    commands, settings = (text_of(ROOT / "docs" / f"{n}.md") for n in ("commands", "settings"))
    names = [
        name for name, _ in generator().walk_commands(typer.main.get_command(app), "reelcheck")
    ]
    assert len(names) > 15
    assert [name for name in names if f"## `{name}`" not in commands] == []
    assert [name for name in generator().SECTIONS if f"## `[{name}]`" not in settings] == []


def test_sections_of_the_reference_are_those_of_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[nonsense]\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(generator().SECTIONS["run"], section="run", config_path=file)
    known = str(caught.value).partition("known are ")[2]
    assert known.split(", ") == sorted(generator().SECTIONS)


def test_every_status_and_flag_is_explained() -> None:
    text = text_of(ROOT / "docs" / "scoring.md")
    assert [name for name in (*Status, *FLAG_WORDS) if f"`{name}`" not in text] == []


def test_diagram_of_the_dag_names_every_node_and_flow() -> None:
    texts = [text_of(path) for path in sorted(ROOT.glob("tasks/*/steps.py"))]
    for path in sorted(ROOT.glob("flows/*.py")):
        texts += re.findall(r"^@flow\((.*)", text_of(path), re.MULTILINE)
    named = [name for text in texts for name in _NAMED.findall(text)]
    assert len(named) > 15
    diagrams = diagrams_of("docs/architecture.md")
    assert [name for name in named if not re.search(rf"\b{re.escape(name)}\b", diagrams)] == []


def test_diagram_of_the_rooms_names_every_room() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    contracts = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    rooms = {room for c in contracts for layer in c["layers"] for room in layer.split(" | ")}
    assert {"flows", "tasks", "registry"} <= rooms
    diagrams = diagrams_of("docs/architecture.md")
    assert {room for room in rooms if not re.search(rf"\b{room}\b", diagrams)} == set()
