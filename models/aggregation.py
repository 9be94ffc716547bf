"""Sequence logits -> one logit per video.

The worst track decides: one faked face makes a fake video, however many real faces are beside it.
Within a track the mean decides: its sequences are repeated looks at one person.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from reelcheck.records import ScoredSequence

AGGREGATION = "worst_track_of_mean_sequence_logits"


def track_logit(sequence_logits: Sequence[float]) -> float:
    """Mean over one track's sequences; NaN where any of them is NaN."""
    return sum(sequence_logits) / len(sequence_logits)


def video_logits(sequences: Iterable[ScoredSequence]) -> dict[str, float]:
    """Video id -> largest mean logit of its tracks; NaN where any sequence's logit is NaN."""
    by_track: dict[tuple[str, int], list[float]] = defaultdict(list)
    for sequence in sequences:
        by_track[sequence.video_id, sequence.track_id].append(sequence.logit)
    means: dict[str, list[float]] = defaultdict(list)
    for (video_id, _), logits in by_track.items():
        means[video_id].append(track_logit(logits))
    # numpy's max keeps a NaN, whatever its place; Python's does not.
    return {video_id: float(np.max(values)) for video_id, values in means.items()}
