"""How well metadata alone tells the label: a detector would learn such shortcuts.

Gradient boosting on metadata is cross-validated over groups that share nothing. Where real and fake
videos were compressed, scaled or cut differently, it is right without a look at any face. So would
be a detector that was trained and tested on these videos (arXiv 2403.17608 measures how much).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from models.metrics.metrics import Interval, bootstrap_auc
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import read_table

WARN_FROM, FAIL_FROM = 0.60, 0.75
"""AUC of metadata alone from which the verdict is ``warn`` or ``fail``."""
_NUM_FOLDS = 5
_NUM_TOKENS = 100
COLUMNS = (
    "codec",
    "container",
    "bits_per_pixel",
    "width",
    "height",
    "average_fps",
    "duration_seconds",
    "face_pixels",
)
"""What is known of a video apart from its pictures; ``make_metadata_table``."""


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """Measures of how well metadata alone tells the labels."""

    auc: Interval
    """AUC of all columns together, on videos of groups that the model was not fitted on."""
    by_column: dict[str, float]
    """AUC of each column alone, the highest first."""
    file_name: float
    """AUC of file names. A detector does not see them, so they do not change the verdict; but they
    show where real and fake videos have different origins."""

    @property
    def verdict(self) -> str:
        """``ok``, ``warn`` or ``fail``; an AUC that chance can explain does not fail."""
        if self.auc.value >= FAIL_FROM and self.auc.low > 0.5:
            return "fail"
        return "warn" if self.auc.value >= WARN_FROM else "ok"


def read_metadata_table(layout: StoreLayout) -> pd.DataFrame:
    """Read the metadata table of a store; see ``make_metadata_table``.

    Raises:
        StoreError: a table is missing or damaged.
    """
    return make_metadata_table(
        read_table(layout.videos_path, VIDEOS, columns=_NEEDED).to_pandas(ignore_metadata=True),
        read_table(layout.manifest_path, MANIFEST, columns=_OF_FACES).to_pandas(),
    )


def make_metadata_table(videos: pd.DataFrame, faces: pd.DataFrame) -> pd.DataFrame:
    """Make a table of ``COLUMNS`` for each content that has crops, by video id.

    Args:
        videos: the table of files; of several copies the first counts.
        faces: the manifest, for the size of the largest face.
    """
    table = videos[_NEEDED].drop_duplicates("video_id").set_index("video_id")
    table["face_pixels"] = faces.groupby("video_id")["face_pixels"].max()
    known = table[table["face_pixels"].notna()].astype(dict.fromkeys(_NUMBERS, float))
    pixels = known["width"] * known["height"] * known["num_frames"]
    known["bits_per_pixel"] = 8 * known["size_bytes"] / pixels.where(pixels > 0)
    if known["bits_per_pixel"].nunique() > 1:
        # Trees see order, not size: without this, encoders that were asked for the same rate would
        # tell labels apart by a thousandth of it.
        known["bits_per_pixel"] *= np.random.default_rng(0).normal(1, _SAME_RATE, len(known))
    # A number, because the model refuses a column without any value (a still has no rate).
    known = known.fillna(dict.fromkeys((*_NUMBERS, "bits_per_pixel"), _UNKNOWN))
    return known.astype(dict.fromkeys(_WORDS, "category"))[list(COLUMNS)]


_UNKNOWN = -1.0
_SAME_RATE = 0.02
"""Relative difference of bit rates below which they are the same: what an encoder's rate control
keeps to (``tasks/preprocessing/normalise.py``)."""
_WORDS = ("codec", "container")
_NUMBERS = ("width", "height", "num_frames", "size_bytes", "average_fps", "duration_seconds")
_NEEDED = ["video_id", *_WORDS, *_NUMBERS]
_OF_FACES = ["video_id", "face_pixels"]


def make_metadata_model(num_videos: int) -> HistGradientBoostingClassifier:
    """Make an unfitted model for this number of videos; leaves of a small table may be small."""
    return HistGradientBoostingClassifier(
        min_samples_leaf=int(np.clip(num_videos // 20, 2, 20)),
        categorical_features="from_dtype",
        random_state=0,
    )


def find_shortcuts(
    table: pd.DataFrame,
    labels: NDArray[np.int64],
    groups: NDArray[Any],
    paths: Sequence[str],
    *,
    seed: int = 0,
) -> Shortcuts | None:
    """Find the cross-validated AUC of metadata, of all columns together and of each column.

    Args:
        table: rows of ``make_metadata_table``.
        labels: 1 fake, 0 real.
        groups: videos that share anything have one group.
        paths: paths of the videos.
        seed: seed of the folds and of the bootstrap.

    Returns:
        None where one label has fewer than two groups, or so few that videos of this label would be
        missing when some groups are held out.
    """
    num_groups = min(len(set(groups[labels == label].tolist())) for label in (0, 1))
    num_folds = min(_NUM_FOLDS, num_groups)
    if num_folds < 2:
        return None
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    divisions = list(folds.split(table, labels, groups))
    if any(len(np.unique(labels[fitted])) < 2 for fitted, _ in divisions):
        return None

    def score(features: pd.DataFrame) -> NDArray[np.float64]:
        model = make_metadata_model(len(features))
        shares = cross_val_predict(model, features, labels, cv=divisions, method="predict_proba")
        return np.asarray(shares[:, 1], np.float64)

    together = bootstrap_auc(score(table), labels, groups, seed=seed)
    if together is None:
        return None
    alone = {name: float(roc_auc_score(labels, score(table[[name]]))) for name in table.columns}
    return Shortcuts(
        auc=together,
        by_column=dict(sorted(alone.items(), key=lambda item: -item[1])),
        file_name=float(roc_auc_score(labels, score(_make_name_table(paths)))),
    )


def _make_name_table(paths: Sequence[str]) -> pd.DataFrame:
    """Make a table of the commonest words, numbers and shapes, and whether each name has them."""
    vectorizer = CountVectorizer(
        analyzer=_list_tokens, max_features=_NUM_TOKENS, binary=True, dtype=np.uint8
    )
    return pd.DataFrame(vectorizer.fit_transform(paths).toarray())


def _list_tokens(path: str) -> list[str]:
    name = PurePosixPath(path).name.casefold()
    return [*re.findall(r"[^\W\d_]+|\d+", name), re.sub(r"\d", "0", re.sub(r"[^\W\d_]", "a", name))]
