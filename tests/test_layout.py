"""What is where, and what may be imported without what."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
MAX_FILES = 16
"""In a folder of code: more than that, and nobody finds the place."""
PACKAGES = sorted(path.parent.name for path in ROOT.glob("[!.]*/__init__.py"))


def modules_of(*packages: str) -> list[str]:
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    assert files
    dotted = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(files)]
    return [name.removesuffix(".__init__") for name in dotted]


TABLE_MODULES = sorted({*modules_of("storage")} - {"storage.weights", "storage.checkpoints"})
"""Reading a table needs neither torch nor what decodes videos."""


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_wheel_ships_exactly_the_top_level_packages_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(shipped) == PACKAGES


def test_no_flow_is_named_like_a_top_level_folder() -> None:
    # `import tasks` inside such a file's folder would mean two things.
    flows = {file.stem for file in (ROOT / "flows").glob("*.py")} - {"__init__", "__main__"}
    assert flows
    assert flows.isdisjoint({*PACKAGES, "tests"})


def test_no_file_of_the_page_is_named_like_another_module() -> None:
    # Streamlit puts the folder of its script first on the path.
    files = {file.stem for file in (ROOT / "page").glob("*.py")} - {"__init__"}
    assert files
    assert files.isdisjoint({*PACKAGES, "tests", *sys.stdlib_module_names})


def test_no_module_is_a_drawer_for_anything() -> None:
    names = {part for name in modules_of(*PACKAGES) for part in name.split(".")}
    assert names.isdisjoint({"utils", "util", "helpers", "common", "base", "misc"})


@pytest.mark.parametrize(
    "package",
    [file.parent for name in PACKAGES for file in sorted((ROOT / name).rglob("__init__.py"))],
    ids=lambda folder: folder.relative_to(ROOT).as_posix(),
)
def test_docstring_of_a_package_is_the_map_of_its_files(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    files = {file.name for file in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    folders = {folder.parent.name for folder in package.glob("*/__init__.py")}
    assert text
    assert {name for name in files | folders if name not in text} == set()


def test_no_file_has_too_many_lines() -> None:
    files = [file for name in (*PACKAGES, "tests") for file in (ROOT / name).rglob("*.py")]
    counts = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {file: count for file, count in counts.items() if count > MAX_LINES} == {}


def test_no_folder_of_code_has_too_many_files() -> None:
    counts = Counter(
        path.parent.relative_to(ROOT)
        for package in (*PACKAGES, "tests", "benchmarks", "examples")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    assert {str(folder): count for folder, count in counts.items() if count > MAX_FILES} == {}


def test_folders_of_tests_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_test_is_imported_as_a_module() -> None:
    # It would work in this checkout only, whose root an editable install puts on the path.
    lines = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (ROOT / "tests").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import tests", "from tests", "from conftest"))
    ]
    assert lines == []


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        (modules_of("models", "storage"), ("prefect", "mediapipe", "decord", "av")),
        (TABLE_MODULES, ("torch", "timm", "prefect", "mediapipe", "decord", "av")),
        (
            modules_of("reelcheck"),
            ("torch", "prefect", "mediapipe", "decord", "av", "pyarrow", "cv2"),
        ),
    ],
)
def test_packages_import_without_what_they_must_not_need(
    modules: list[str], blocked: tuple[str, ...]
) -> None:
    script = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({blocked}))
for name in {modules}:
    importlib.import_module(name)
"""
    result = run_python(script)
    assert result.returncode == 0, result.stderr


def test_decode_process_imports_no_torch() -> None:
    heavy = {"torch", "timm", "lightning", "prefect", "sklearn"}
    result = run_python(
        "import sys, tasks.faces.worker, tasks.faces.video, tasks.faces.decoding.decode\n"
        f"print(*{heavy} & sys.modules.keys())"
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
