"""The command line: help without weight, and errors in one line with their exit code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
"""Runs of the command line, which give exit code, stdout and stderr."""
COMMANDS = (
    "preprocess",
    "normalise",
    "inspect",
    "split",
    "audit",
    "recipes",
    "train",
    "evaluate",
    "export",
    "weights import",
    "score",
    "page",
    "retrain",
    "models list",
    "models show",
    "models compare",
    "models promote",
    "models rollback",
    "demo",
)
HEAVY = ("torch", "timm", "lightning", "prefect", "mediapipe", "pandas", "sklearn", "cv2", "av")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_of_every_command_has_an_example(reelcheck: Command) -> None:
    for command in COMMANDS:
        # Recipes are for training.
        shown = "train" if command == "recipes" else command
        result = reelcheck(*command.split(), "--help")
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"Example: reelcheck {shown}" in result.stdout


def test_help_without_a_command_lists_all_of_them() -> None:
    stdout, _ = start("--help").communicate()
    assert all(f" {command.split()[0]} " in stdout for command in COMMANDS)


def test_command_line_imports_nothing_heavy() -> None:
    script = f"import sys, flows.cli; print(*{set(HEAVY)} & sys.modules.keys())"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def assert_one_line_error(stderr: str) -> str:
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_bad_setting_ends_the_process_with_exit_code_2(tmp_path: Path) -> None:
    process = start(
        "preprocess", str(tmp_path), "--store", str(tmp_path / "store"), "--set", "margin=9"
    )
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (2, "")
    assert "margin" in assert_one_line_error(stderr)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("margin", "KEY=VALUE"),
        ("=1", "KEY=VALUE"),
        ("marginn=1.5", "no such setting"),
        ("crop_pixels=many", "crop_pixels"),
        ("num_frames.deep=3", "num_frames"),
        ("min_sequence_frames=31", "max_sequence_frames"),
    ],
)
def test_bad_setting_gives_exit_code_2_and_one_line(
    reelcheck: Command, tmp_path: Path, override: str, named: str
) -> None:
    result = reelcheck("preprocess", tmp_path, "--store", tmp_path / "s", "--set", override)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in assert_one_line_error(result.stderr)


def test_odd_number_of_rendered_people_gives_exit_code_2_and_one_line(
    reelcheck: Command, tmp_path: Path
) -> None:
    result = reelcheck("demo", "--out", tmp_path / "demo", "--identities", 13)
    assert result.exit_code == 2
    assert "num_identities must be even" in assert_one_line_error(result.stderr)
    assert not (tmp_path / "demo").exists()


def test_unreadable_settings_file_gives_exit_code_2(reelcheck: Command, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[preprocess\n", encoding="utf-8")
    result = reelcheck("preprocess", tmp_path, "--store", tmp_path / "s", "--config", config)
    assert result.exit_code == 2
    assert str(config) in assert_one_line_error(result.stderr)


def test_normalise_writes_videos_and_a_table(
    reelcheck: Command, tmp_path: Path, faceless_video: Path
) -> None:
    out = tmp_path / "out"
    result = reelcheck("normalise", faceless_video.parent, "--out", out, "--max-side", 128)
    assert result.exit_code == 0
    assert str(out) in result.stdout
    assert {path.name for path in out.iterdir()} >= {faceless_video.name, "normalised.csv"}


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--max-side", "129"), "max_side = 129"),
        (("--bits-per-pixel", "0"), "bits_per_pixel = 0"),
        (("--fps", "0"), "frames_per_second = 0"),
    ],
)
def test_normalise_to_a_bad_profile_gives_exit_code_2(
    reelcheck: Command, tmp_path: Path, option: tuple[str, str], named: str
) -> None:
    result = reelcheck("normalise", tmp_path, "--out", tmp_path / "out", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in assert_one_line_error(result.stderr)


def test_missing_model_gives_exit_code_2(reelcheck: Command, tmp_path: Path) -> None:
    result = reelcheck("score", tmp_path, "--model", tmp_path / "none", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "card.json" in assert_one_line_error(result.stderr)
    assert not (tmp_path / "out").exists()


def test_path_that_looks_like_markup_gives_one_line(reelcheck: Command, tmp_path: Path) -> None:
    config = tmp_path / "a[/b].toml"
    result = reelcheck("preprocess", tmp_path, "--store", tmp_path / "s", "--config", config)
    assert result.exit_code == 2
    assert "a[/b].toml" in assert_one_line_error(result.stderr)


def test_section_of_a_bad_settings_file_is_named(reelcheck: Command, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("preprocess = 3\n", encoding="utf-8")
    result = reelcheck("preprocess", tmp_path, "--store", tmp_path / "s", "--config", config)
    assert result.exit_code == 2
    assert "[preprocess]" in assert_one_line_error(result.stderr)


def test_inspect_writes_a_picture(reelcheck: Command, tmp_path: Path, tiny: Any) -> None:
    (clip,) = tiny.clips(1)[:1]
    tiny.write_store(tmp_path / "store", [clip])
    out = tmp_path / "sheet.png"
    result = reelcheck("inspect", tmp_path / "store", clip.path, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(out) in result.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("known", [True, False], ids=["store", "no store"])
def test_inspect_of_what_is_not_there_gives_exit_code_2_and_one_line(
    reelcheck: Command, tmp_path: Path, tiny: Any, *, known: bool
) -> None:
    if known:
        tiny.write_store(tmp_path / "store", tiny.clips(1))
    out = tmp_path / "sheet.png"
    result = reelcheck("inspect", tmp_path / "store", "gone.mp4", "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert ("gone.mp4" if known else "reelcheck preprocess") in assert_one_line_error(result.stderr)
    assert not out.exists()


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_missing_source_gives_exit_code_2_and_one_line(reelcheck: Command, tmp_path: Path) -> None:
    result = reelcheck("preprocess", tmp_path / "gone", "--store", tmp_path / "store")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "gone does not exist" in assert_one_line_error(result.stderr)
    assert not (tmp_path / "store").exists()


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    "content", [None, b"", b"path\na.mp4\n", b"path,label\na.mp4,maybe\n", b"path,label\n\xff,1\n"]
)
def test_unreadable_labels_give_exit_code_2(
    reelcheck: Command, tmp_path: Path, content: bytes | None
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").touch()
    labels = tmp_path / "labels.csv"
    if content is not None:
        labels.write_bytes(content)
    result = reelcheck(
        "preprocess", tmp_path / "in", "--store", tmp_path / "store", "--labels", labels
    )
    assert (result.exit_code, result.stdout) == (2, "")
    # The progress bar of hashing stands before the message.
    *progress, message = result.stderr.replace("\r", "\n").splitlines()
    assert str(labels) in assert_one_line_error(message)
    assert not any("Traceback" in line or "error" in line for line in progress)
    assert not (tmp_path / "store").exists()


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("arguments", [("split",), ("train", "--out", "model")])
def test_store_without_a_manifest_gives_exit_code_2(
    reelcheck: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    command, *options = arguments
    result = reelcheck(command, tmp_path, *options)
    assert result.exit_code == 2
    assert "reelcheck preprocess" in assert_one_line_error(result.stderr)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_unexpected_error_gives_exit_code_1_and_one_line(
    reelcheck: Command, tmp_path: Path
) -> None:
    source = tmp_path / "a.mp4"
    source.touch()
    # A store inside a file: nothing that the error tree knows.
    result = reelcheck("preprocess", source, "--store", source / "store")
    assert result.exit_code == 1
    *_, message = result.stderr.replace("\r", "\n").splitlines()
    assert "unexpected NotADirectoryError" in assert_one_line_error(message)
    assert "Traceback" not in result.stderr
