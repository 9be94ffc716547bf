"""Sequence logits -> one logit per track and per video.

The rule is chosen on validation videos and stored in the model card. By default the worst track
decides: one faked face makes a fake video, even among many real faces. Within a track the mean
decides: its sequences are repeated looks at one person.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from reelcheck.card import Aggregation
from reelcheck.records import ScoredSequence

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
"""All rules; the first is the default."""


def aggregate_track(sequence_logits: Sequence[float], rule: Aggregation) -> float:
    """Find the logit of a track from its sequences' logits; NaN where any of them is NaN."""
    if rule == "worst_sequence_logit":
        # numpy's max keeps a NaN in any position; Python's does not.
        return float(np.max(sequence_logits))
    return sum(sequence_logits) / len(sequence_logits)


def aggregate_video(tracks: Sequence[Sequence[float]], rule: Aggregation) -> float:
    """Find the logit of a video from its tracks' sequences; NaN where any logit is NaN."""
    if rule == "mean_sequence_logit":
        return aggregate_track([logit for track in tracks for logit in track], rule)
    return float(np.max([aggregate_track(track, rule) for track in tracks]))


def aggregate_videos(sequences: Iterable[ScoredSequence], rule: Aggregation) -> dict[str, float]:
    """Find the logit of each video, by id; NaN where the logit of any sequence is NaN."""
    tracks: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sequence in sequences:
        tracks[sequence.video_id][sequence.track_id].append(sequence.logit)
    return {
        video_id: aggregate_video(list(by_track.values()), rule)
        for video_id, by_track in tracks.items()
    }
