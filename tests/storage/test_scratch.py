"""A folder for temporary files that never outlives its run for long."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.scratch import make_scratch_folder

HOLDER = """
import sys
from pathlib import Path

from storage.scratch import make_scratch_folder

with make_scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "large.mp4").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a folder until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def folder_of(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_scratch_folder_is_gone_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with make_scratch_folder(tmp_path) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "file").touch()
            assert folder.parent == tmp_path
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_of_a_killed_process_goes_with_the_next(
    tmp_path: Path, other_run: "subprocess.Popen[str]"
) -> None:
    left = folder_of(other_run)
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert (left / "sub" / "large.mp4").exists()
    with make_scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_scratch_folder_of_a_living_process_stays(
    tmp_path: Path, other_run: "subprocess.Popen[str]"
) -> None:
    theirs = folder_of(other_run)
    with make_scratch_folder(tmp_path) as ours:
        assert (theirs / "sub" / "large.mp4").exists()
        assert set(tmp_path.iterdir()) == {ours, theirs}
    other_run.communicate()
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_leaves_alone_what_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "reelcheck-scratch-notes").mkdir()
    with make_scratch_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["reelcheck-scratch-notes"]
