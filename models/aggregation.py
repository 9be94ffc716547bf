"""Sequence logits -> one logit per track and per video.

Which rule joins them is chosen on validation videos and stored in the model card. By default the
worst track decides: one faked face makes a fake video, however many real faces are beside it.
Within a track the mean decides: its sequences are repeated looks at one person.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from reelcheck.card import Aggregation
from reelcheck.records import ScoredSequence

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
"""All rules; the first is the default."""


def track_logit(sequence_logits: Sequence[float], rule: Aggregation) -> float:
    """Logit of one track from those of its sequences; NaN where any of them is NaN."""
    if rule == "worst_sequence_logit":
        # numpy's max keeps a NaN, whatever its place; Python's does not.
        return float(np.max(sequence_logits))
    return sum(sequence_logits) / len(sequence_logits)


def video_logit(tracks: Sequence[Sequence[float]], rule: Aggregation) -> float:
    """Logit of one video from those of each track's sequences; NaN where any of them is NaN."""
    if rule == "mean_sequence_logit":
        return track_logit([logit for track in tracks for logit in track], rule)
    return float(np.max([track_logit(track, rule) for track in tracks]))


def video_logits(sequences: Iterable[ScoredSequence], rule: Aggregation) -> dict[str, float]:
    """Video id -> its logit; NaN where any sequence's logit is NaN."""
    tracks: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sequence in sequences:
        tracks[sequence.video_id][sequence.track_id].append(sequence.logit)
    return {
        video_id: video_logit(list(by_track.values()), rule)
        for video_id, by_track in tracks.items()
    }
