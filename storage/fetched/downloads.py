"""Fetch a file of others: from a URL, from a wheel of a package index, from the Hugging Face hub.

What is fetched lies in the given folder only when it is whole. Whether it is the expected file is
for the caller to check: a hash says it, an address does not.
"""

import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from reelcheck.errors import DownloadError
from reelcheck.progress import show_byte_progress
from storage.atomic import atomic_path

_MAX_BYTES = 16 * 2**30
"""Largest file that is fetched without a known size: an address may answer without end."""
_SILENCE_SECONDS = 60.0
_CHUNK_BYTES = 2**18
_RANGE_NOT_SATISFIABLE = 416
_BROKEN = (
    *(urllib.error.URLError, ConnectionError, TimeoutError, HTTPException, ssl.SSLError),
    ValueError,
)
"""Exceptions of a network that fails, or of an address that is none; any other OSError is one of
writing."""


def download_url(url: str, target: Path, *, num_bytes: int | None = None) -> None:
    """Fetch a file by HTTP; a download that broke off goes on where it stopped.

    Until the file is whole, ``<target>.part`` holds what has come, and ``<target>.etag`` which
    version of the file that is: only the same version is continued.

    Args:
        url: http or https.
        target: file to write.
        num_bytes: size that the file must have; None: any.

    Raises:
        DownloadError: the address is none, or does not answer with such a file.
        OSError: the file cannot be written; nothing of it is kept.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is no address of a file; give one that begins with https://")
    part, etag_path = (target.with_name(f"{target.name}.{end}") for end in ("part", "etag"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _open(url, _describe_rest(part, etag_path)) as answer:
            _refuse_page(answer, url)
            is_rest = answer.status == 206
            begun = part.stat().st_size if is_rest else 0
            total = _find_total(answer, begun)
            if (total or 0) > _MAX_BYTES:
                raise DownloadError(f"{url} has {total} bytes, more than {_MAX_BYTES}")
            if num_bytes is not None and total is not None and total != num_bytes:
                raise DownloadError(f"{url} has {total} bytes instead of {num_bytes}")
            if not is_rest:
                part.unlink(missing_ok=True)
                etag_path.write_text(answer.headers.get("ETag", ""), encoding="utf-8")
            _append(answer, part, begun=begun, total=total or num_bytes)
        size = part.stat().st_size
        expected = total if num_bytes is None else num_bytes
        if expected is not None and size < expected:
            raise ConnectionError(f"the connection ended after {size} of {expected} bytes")
    except _BROKEN as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} cannot be fetched ({reason}); the same command again continues what has come"
        ) from error
    except (DownloadError, OSError):
        part.unlink(missing_ok=True)
        etag_path.unlink(missing_ok=True)
        raise
    part.replace(target)
    etag_path.unlink(missing_ok=True)


def download_wheel_member(
    requirement: str, member: str, target: Path, *, pip_options: Sequence[str] = ()
) -> None:
    """Take one file out of a wheel of the package index that pip uses.

    The package is neither installed nor imported, and nothing is built.

    Args:
        requirement: name and version, such as ``mediapipe==0.10.21``.
        member: path of the file in the wheel.
        target: file to write.
        pip_options: what tells pip which wheel of a version is meant.

    Raises:
        DownloadError: pip cannot fetch the wheel, or the wheel holds no such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(  # noqa: S603 - no shell; the words come from our catalogue
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--only-binary=:all:"),
                *pip_options,
                *("--dest", folder, requirement),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            last_line = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise DownloadError(f"pip cannot download {requirement} ({last_line})")
        take_wheel_member(wheels[0], member, target)


def take_wheel_member(wheel: Path, member: str, target: Path) -> None:
    """Take one file out of a wheel, which is a ZIP file.

    Raises:
        DownloadError: the file is no wheel, or is damaged, or holds no such file.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, atomic_path(target) as temporary:
            if member not in archive.namelist():
                raise DownloadError(f"{wheel.name} holds no {member}")
            if archive.getinfo(member).file_size > _MAX_BYTES:
                raise DownloadError(f"{member} has more than {_MAX_BYTES} bytes")
            with archive.open(member) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{wheel} is no wheel, or is damaged ({error})") from error


def download_hub_file(repo: str, file: str, *, revision: str) -> Path:
    """Find a file in the cache of the Hugging Face hub, or fetch it from there.

    The environment variables of huggingface_hub hold: ``HF_HOME``, ``HF_ENDPOINT``,
    ``HF_HUB_OFFLINE``.

    Returns:
        Path in the hub's own cache.

    Raises:
        DownloadError: the file is neither cached nor can it be fetched.
    """
    # Imported late: it takes a second.
    from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415

    # The hub's package has no one base for its errors; HTTPError is that of what it connects with.
    names = ("HTTPError", "EntryNotFoundError", "RevisionResolutionError", "XetDownloadError")
    known = [getattr(errors, name) for name in names if hasattr(errors, name)]
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (*known, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DownloadError(f"the hub does not give {file} of {repo} ({reason})") from error


def _describe_rest(part: Path, etag_path: Path) -> dict[str, str]:
    """Ask for what is missing of the version that has begun to come; for all where none has."""
    etag = etag_path.read_text(encoding="utf-8") if etag_path.exists() else ""
    if not etag or not part.exists():
        return {}
    return {"Range": f"bytes={part.stat().st_size}-", "If-Range": etag}


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https, see above
    try:
        answer = urllib.request.urlopen(request, timeout=_SILENCE_SECONDS)  # noqa: S310 - likewise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != _RANGE_NOT_SATISFIABLE or not headers:
            raise
        return _open(url, {})  # what has come is longer than the file
    assert isinstance(answer, HTTPResponse)  # noqa: S101 - urllib's for these addresses
    return answer


def _refuse_page(answer: HTTPResponse, url: str) -> None:
    if answer.headers.get_content_type() == "text/html":
        raise DownloadError(
            f"{url} answered with a web page, not with the file; open it in a browser, download "
            "the file there, and give it with --from FILE"
        )


def _find_total(answer: HTTPResponse, begun: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return begun + int(length) if length.isdecimal() else None


def _append(answer: HTTPResponse, part: Path, *, begun: int, total: int | None) -> None:
    most = total or _MAX_BYTES
    with (
        part.open("ab") as file,
        show_byte_progress(total=total, begun=begun, description="download") as bar,
    ):
        size = begun
        while chunk := answer.read(min(_CHUNK_BYTES, most + 1 - size)):
            size += len(chunk)
            if size > most:
                raise DownloadError(f"{answer.url} gives more than {most} bytes")
            file.write(chunk)
            bar.update(len(chunk))
