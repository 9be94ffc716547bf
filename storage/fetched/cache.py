"""File and folder names in the user's own folders; no other module spells them.

CACHE/weights/<name>/           one entry of the catalogue of published weights
  <name>/                       the converted weights: a MODEL, or a backbone with source.json
  download/                     what has come of a file that is being fetched
  lock                          held while a process fetches; another one waits
CACHE/exports/<network>-<versions>/  ONNX files that this machine has made from a model's weights
  encoder.onnx head.onnx        frames -> features; features of a sequence -> logits
  onnx.json                     hashes of the two; written last
  lock                          held while a process makes them
DATA/known_weights/<name>       hash that the first download of an entry had

CACHE and DATA are what the operating system gives each user for such files: ``~/.cache/reelcheck``
and ``~/.local/share/reelcheck`` on Linux, unless ``XDG_CACHE_HOME`` and ``XDG_DATA_HOME`` name
others. The variable REELCHECK_EXPORTS puts CACHE/exports elsewhere; whoever can write there decides
what models say.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from storage.layout import ModelLayout

_NAME = "reelcheck"


@dataclass(frozen=True)
class CachedWeights:
    """Paths of one entry of the catalogue."""

    path: Path

    @property
    def lock_path(self) -> Path:
        """Locked while a process fetches."""
        return self.path / "lock"

    @property
    def model(self) -> ModelLayout:
        """The converted weights."""
        return ModelLayout(self.path / self.path.name)

    @property
    def download_dir(self) -> Path:
        """Folder of the file while it is fetched."""
        return self.path / "download"

    def has_weights(self) -> bool:
        """Whether the weights have been fetched and converted."""
        return self.model.card_path.exists() or self.model.source_path.exists()


def locate_cached_weights(name: str) -> CachedWeights:
    """Locate the folder of an entry of the catalogue, whether or not it is there."""
    return CachedWeights(user_cache_path(_NAME) / "weights" / name)


@dataclass(frozen=True)
class ExportLayout:
    """Paths of the ONNX files of one model."""

    path: Path

    @property
    def encoder_path(self) -> Path:
        """ONNX file: frames -> features."""
        return self.path / "encoder.onnx"

    @property
    def head_path(self) -> Path:
        """ONNX file: features of a sequence -> logits."""
        return self.path / "head.onnx"

    @property
    def record_path(self) -> Path:
        """Hashes of both files; written last."""
        return self.path / "onnx.json"

    @property
    def lock_path(self) -> Path:
        """Locked while a process makes the files."""
        return self.path / "lock"


def locate_exports_dir() -> Path:
    """Locate the folder of the ONNX files of all models."""
    named = os.environ.get("REELCHECK_EXPORTS")
    return Path(named) if named else user_cache_path(_NAME) / "exports"


def locate_known_hash(name: str) -> Path:
    """Locate the record of the hash that the first download of an entry had."""
    return user_data_path(_NAME) / "known_weights" / name


def locate_cached_file(name: str) -> Path:
    """Locate a single file of the cache, such as the face detector's weights."""
    return user_cache_path(_NAME) / name
