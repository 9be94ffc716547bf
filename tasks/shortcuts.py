"""How well do things that are no faces tell the label? A detector would learn them.

Gradient boosting on metadata alone, cross-validated over groups that share nothing. Where real and
fake videos were compressed, scaled or cut differently, it is right without a look at any face, and
so would be a detector that was trained and tested on them (arXiv 2403.17608 measures how much).
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

from models.metrics import Interval, group_bootstrap_auc
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import read_table

WARN_FROM, FAIL_FROM = 0.60, 0.75
"""AUC of metadata alone."""
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
"""What is known of a video apart from its pictures; ``metadata_table``."""


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """What metadata alone tells of the labels."""

    auc: Interval
    """Of all columns together, on videos of groups that it was not fitted on."""
    by_column: dict[str, float]
    """AUC of each column alone, the highest first."""
    file_name: float
    """AUC of file names. A detector does not see them, so they are told and never held against the
    data; but they show where real and fake videos come from different places."""

    @property
    def verdict(self) -> str:
        """``ok``, ``warn`` or ``fail``; what chance can explain fails nobody."""
        if self.auc.value >= FAIL_FROM and self.auc.low > 0.5:
            return "fail"
        return "warn" if self.auc.value >= WARN_FROM else "ok"


def read_metadata_table(layout: StoreLayout) -> pd.DataFrame:
    """The ``metadata_table`` of a store.

    Raises:
        StoreError: a table is missing or damaged.
    """
    return metadata_table(
        read_table(layout.videos_path, VIDEOS, columns=_NEEDED).to_pandas(),
        read_table(layout.manifest_path, MANIFEST, columns=_OF_FACES).to_pandas(),
    )


def metadata_table(videos: pd.DataFrame, faces: pd.DataFrame) -> pd.DataFrame:
    """``COLUMNS`` of each content that has crops, by video id.

    Args:
        videos: the table of files; of copies the first counts.
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
    # A number, because the model refuses a column of which nothing is known (a still has no rate).
    known = known.fillna(dict.fromkeys((*_NUMBERS, "bits_per_pixel"), _UNKNOWN))
    return known.astype(dict.fromkeys(_WORDS, "category"))[list(COLUMNS)]


_UNKNOWN = -1.0
_SAME_RATE = 0.02
"""Relative difference of bit rates below which they are the same: what an encoder's rate control
keeps to (``tasks/normalise.py``)."""
_WORDS = ("codec", "container")
_NUMBERS = ("width", "height", "num_frames", "size_bytes", "average_fps", "duration_seconds")
_NEEDED = ["video_id", *_WORDS, *_NUMBERS]
_OF_FACES = ["video_id", "face_pixels"]


def metadata_model(num_videos: int) -> HistGradientBoostingClassifier:
    """An unfitted model for so many videos; few of them are enough for a leaf of a small table."""
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
    """Cross-validated AUC of metadata, together and column by column.

    Args:
        table: rows of ``metadata_table``.
        labels: 1 fake, 0 real.
        groups: what shares anything is of one group.
        paths: of the videos.
        seed: of the folds and the bootstrap.

    Returns:
        None where fewer than two groups have one of the labels, or so few that the rest would lack
        it when some are held out.
    """
    num_groups = min(len(set(groups[labels == label].tolist())) for label in (0, 1))
    num_folds = min(_NUM_FOLDS, num_groups)
    if num_folds < 2:
        return None
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    places = list(folds.split(table, labels, groups))
    if any(len(np.unique(labels[fitted])) < 2 for fitted, _ in places):
        return None

    def scores_of(features: pd.DataFrame) -> NDArray[np.float64]:
        model = metadata_model(len(features))
        found = cross_val_predict(model, features, labels, cv=places, method="predict_proba")
        return np.asarray(found[:, 1], np.float64)

    together = group_bootstrap_auc(scores_of(table), labels, groups, seed=seed)
    if together is None:
        return None
    alone = {name: float(roc_auc_score(labels, scores_of(table[[name]]))) for name in table.columns}
    return Shortcuts(
        auc=together,
        by_column=dict(sorted(alone.items(), key=lambda item: -item[1])),
        file_name=float(roc_auc_score(labels, scores_of(_name_table(paths)))),
    )


def _name_table(paths: Sequence[str]) -> pd.DataFrame:
    """Which of the commonest words, numbers and shapes each file name has."""
    vectorizer = CountVectorizer(
        analyzer=_name_parts, max_features=_NUM_TOKENS, binary=True, dtype=np.uint8
    )
    return pd.DataFrame(vectorizer.fit_transform(paths).toarray())


def _name_parts(path: str) -> list[str]:
    name = PurePosixPath(path).name.casefold()
    return [*re.findall(r"[^\W\d_]+|\d+", name), re.sub(r"\d", "0", re.sub(r"[^\W\d_]", "a", name))]
