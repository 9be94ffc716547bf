"""The catalogue of published weights: what each file is, where it lies, and on which terms.

``catalogue.toml`` holds one table per name. Facts were taken from the sources that each table
cites. Nothing heavy is imported here: the command line looks names up before it does anything.
"""

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from reelcheck.errors import SettingsError
from reelcheck.settings import Settings, validated
from reelcheck.weights.formats import DETECTOR_FORMATS, WeightsFormat

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class WheelSource(Settings):
    """A file inside a wheel of a Python package index; the package is never imported."""

    kind: Literal["wheel"]
    requirement: Annotated[str, Field(pattern="^[a-z0-9-]+==[0-9.]+$")]
    """Name and version of the package."""
    member: str
    """Path of the file in the wheel."""


class HubSource(Settings):
    """A file on the Hugging Face hub."""

    kind: Literal["hub"]
    repo: Annotated[str, Field(pattern="^[^/ ]+/[^/ ]+$")]
    revision: str = "main"
    file: str = "model.safetensors"


class UrlSource(Settings):
    """A file at an address, such as that of a release."""

    kind: Literal["url"]
    url: Annotated[str, Field(pattern="^https://")]


class PageSource(Settings):
    """A page where a person downloads the file by hand."""

    kind: Literal["page"]
    url: Annotated[str, Field(pattern="^https://")]


class CatalogueEntry(Settings):
    """One file of weights."""

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]*$")]
    kind: Literal["backbone", "detector"]
    """A backbone is what training starts from; a detector scores videos."""
    subject: str
    """What its pictures show."""
    trained_on: str
    published: str
    """Published figure with its protocol, in words."""
    licence: str
    commercial_use: Literal["allowed", "forbidden", "unclear"]
    format: WeightsFormat
    """Format that the file is imported by."""
    backbone: str
    """timm's name of the network."""
    pixels: Annotated[int, Field(ge=32)]
    """Side of the pictures that it was made for."""
    pixel_mean: tuple[float, float, float] | None = None
    """Mean that a backbone's pixels are normalised with; a detector's importer knows its own."""
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Standard deviation likewise."""
    num_bytes: Annotated[int, Field(gt=0)] | None = None
    """Size of the file; None: not known."""
    sha256: Sha256 | None = None
    """Hash of the file; None: that of the first download is recorded, and must be the same ever
    after."""
    conversion_checked_on: Literal["published file", "random weights"]
    """What the converted network was compared on with the original implementation."""
    source: Annotated[WheelSource | HubSource | UrlSource | PageSource, Field(discriminator="kind")]
    cites: Annotated[tuple[str, ...], Field(min_length=1)]
    """Where these facts were read."""

    @model_validator(mode="after")
    def _fits_together(self) -> "CatalogueEntry":
        is_detector = self.format in DETECTOR_FORMATS
        if is_detector != (self.kind == "detector"):
            raise ValueError(f"the format {self.format} does not give a {self.kind}")
        if is_detector == (self.pixel_mean is not None) or (
            (self.pixel_mean is None) != (self.pixel_std is None)
        ):
            raise ValueError("pixel_mean and pixel_std are for backbones, which need both")
        return self

    @property
    def url(self) -> str | None:
        """Address of the source; None: a package index, of which every machine has its own."""
        match self.source:
            case UrlSource(url=url) | PageSource(url=url):
                return url
            case HubSource(repo=repo):
                return f"https://huggingface.co/{repo}"
            case WheelSource():
                return None

    @property
    def file_name(self) -> str:
        """Name of the file that the source gives."""
        match self.source:
            case WheelSource(member=path) | HubSource(file=path) | UrlSource(url=path):
                return PurePath(path).name
            case PageSource():
                return self.name


@cache
def load_catalogue() -> dict[str, CatalogueEntry]:
    """Read the catalogue: name -> entry, in the file's order.

    Raises:
        SettingsError: the file is wrong, which a test finds.
    """
    text = (files("reelcheck.weights") / "catalogue.toml").read_text(encoding="utf-8")
    return {
        name: validated(CatalogueEntry, {"name": name, **values})
        for name, values in tomllib.loads(text).items()
    }


def find_entry(name: str) -> CatalogueEntry:
    """Find the entry of this name.

    Raises:
        SettingsError: there is none.
    """
    catalogue = load_catalogue()
    if name not in catalogue:
        raise SettingsError(
            f"the catalogue has no weights named {name!r}; it has {', '.join(catalogue)} "
            "(reelcheck weights list explains them)"
        )
    return catalogue[name]


def require_accepted_licence(entry: CatalogueEntry, *, is_accepted: bool) -> None:
    """Make sure that a licence that does not allow every use has been accepted.

    Raises:
        SettingsError: it has not.
    """
    if entry.commercial_use == "allowed" or is_accepted:
        return
    raise SettingsError(
        f"{entry.name}: commercial use is {entry.commercial_use} (licence: {entry.licence}). If "
        f"you accept that: reelcheck weights fetch {entry.name} --accept-licence"
    )


def require_backbone_of_entry(entry: CatalogueEntry, backbone: str) -> None:
    """Make sure that weights of the catalogue are for the backbone that is trained.

    Raises:
        SettingsError: they are not.
    """
    if entry.backbone != backbone:
        raise SettingsError(
            f"{entry.name} is for the backbone {entry.backbone}, and detector.backbone is "
            f"{backbone}; give --set detector.backbone={entry.backbone}, or other weights"
        )
