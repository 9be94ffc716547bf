"""Sequence logits of one video -> one video logit.

The worst track decides: one faked face makes a fake video, however many real faces are beside it.
Within a track the mean decides: its sequences are repeated looks at one person.
"""

from collections import defaultdict
from collections.abc import Sequence

AGGREGATION = "worst_track_of_mean_sequence_logits"


def video_logit(track_ids: Sequence[int], logits: Sequence[float]) -> float:
    """The largest of the tracks' mean logits."""
    by_track: dict[int, list[float]] = defaultdict(list)
    for track_id, logit in zip(track_ids, logits, strict=True):
        by_track[track_id].append(logit)
    return max(sum(values) / len(values) for values in by_track.values())
