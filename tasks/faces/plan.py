"""Which frames to look at, and which packets must be decoded to see them: pure arithmetic.

A frame costs the references between the last restart and itself, unless frames wanted before it
have paid for them; a picture to which nobody refers costs only itself, and only where it is wanted.

Sampling ``spread`` asks for even places and lets each sample move to a cheaper frame nearby, on
balance of all samples (dynamic programming; of equal costs the most even choice wins). How far:

- never farther than ``max_snap_seconds``;
- up to 15 s of video half the distance between two samples, so that they stay evenly spread;
- beyond, one second more for every six seconds of video. With a key frame every ten seconds, as
  encoders place them by default, the cost then no longer grows with the length of the video.
"""

import numpy as np
from numpy.typing import NDArray

from reelcheck.config import PreprocessSettings
from reelcheck.records import DecodePlan, PacketIndex, VideoProbe

_SHORT_SECONDS = 15.0
_SECONDS_PER_SECOND_OF_SNAP = 6.0

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


def sample_plan(probe: VideoProbe, settings: PreprocessSettings) -> DecodePlan:
    """The frames that ``settings.sampling`` asks for and the cheapest way to them."""
    num_frames = probe.num_frames
    if settings.sampling == "all":
        return frames_plan(probe, np.arange(num_frames))
    if settings.sampling == "clips":
        return _clips_plan(probe, settings)
    places = even_places(num_frames, settings.num_frames)
    if settings.sampling == "uniform" or len(places) == num_frames:
        return frames_plan(probe, places)
    return _snapped_plan(probe, places, settings.max_snap_seconds)


def frames_plan(
    probe: VideoProbe, frame_indices: Integers, *, largest_snap_seconds: float = 0.0
) -> DecodePlan:
    """The fewest packets that give these frames exactly.

    Args:
        probe: the video.
        frame_indices: wanted frames, ascending and distinct.
        largest_snap_seconds: what the plan shall say of how they were chosen.
    """
    packets = probe.packets
    wanted = _packets_of_frames(packets)[frame_indices]
    chains = _Chains(packets)
    first = chains.first_P[wanted]
    is_leading = chains.is_leading_P[wanted]
    # What trails a restart needs none of the pictures that lead it.
    trailing = _covered(first[~is_leading], wanted[~is_leading], packets.num_packets)
    leading = _covered(first[is_leading], wanted[is_leading], packets.num_packets)
    is_needed = packets.is_reference_P & (leading | (trailing & ~chains.is_leading_P))
    is_needed[wanted] = True
    # Decoding starts anew wherever nothing wanted depends on both sides.
    is_bridged = _covered(first + 1, wanted, packets.num_packets)
    needed = np.flatnonzero(is_needed)
    cuts = np.flatnonzero(packets.is_restart_P[needed] & ~is_bridged[needed])
    runs = [run for run in np.split(needed, cuts) if len(run)]
    if probe.codec == "h264" and runs[0][0] > 0:
        # The first packet may hold the encoder's name, which FFmpeg needs to read the 4:4:4
        # streams of old x264 versions right: FaceForensics++ is made of them.
        runs.insert(0, np.zeros(1, np.int64))
    return DecodePlan(
        frame_indices=tuple(int(index) for index in frame_indices),
        runs=tuple(runs),
        num_packets_in_order=int(wanted.max()) + 1,
        largest_snap_seconds=largest_snap_seconds,
    )


def even_places(num_frames: int, num_samples: int) -> Integers:
    """Up to ``num_samples`` distinct positions spread evenly over ``num_frames``."""
    places = np.linspace(0, num_frames - 1, min(num_samples, num_frames))
    return places.round().astype(np.int64)


def snap_tolerance(duration_seconds: float, num_samples: int, max_snap_seconds: float) -> float:
    """Seconds by which a sample may move; see the top of this file."""
    half_spacing = duration_seconds / max(1, num_samples - 1) / 2
    beyond = (duration_seconds - _SHORT_SECONDS) / _SECONDS_PER_SECOND_OF_SNAP
    return min(max_snap_seconds, max(half_spacing, beyond))


def cheapest_places(
    probe: VideoProbe, targets: Integers, *, length: int, earliest: Integers, latest: Integers
) -> Integers | None:
    """Where runs of ``length`` frames start so that all together cost the fewest packets.

    Run i starts between ``earliest[i]`` and ``latest[i]``; of equal costs, the places nearest to
    ``targets`` (sum of squared seconds) win. Runs follow each other in decoding order, and each
    hangs on one restart: runs across a restart or with a picture that leads it are left out.

    Returns:
        First frame of each run; None if not every run finds a place.
    """
    runs = _Runs(probe, length)
    choices = [runs.between(first, last) for first, last in zip(earliest, latest, strict=True)]
    times = np.array(probe.pts_seconds)
    reach = max(
        1e-9, float(np.max([times[latest] - times[targets], times[targets] - times[earliest]]))
    )
    totals: list[Reals] = []
    for target, choice in zip(targets, choices, strict=True):
        # Below one packet in sum, so that it only decides between equal costs.
        uneven = ((times[choice] - times[target]) / reach) ** 2 / (len(targets) + 1)
        before = runs.best_before(choices[len(totals) - 1], totals[-1], choice) if totals else None
        costs = runs.cost_alone(choice) if before is None else before
        totals.append(costs + uneven)
        if not np.isfinite(totals[-1]).any():
            return None
    chosen = [int(choices[-1][np.argmin(totals[-1])])]
    for choice, total in zip(choices[-2::-1], totals[-2::-1], strict=True):
        chosen.append(int(choice[np.argmin(total + runs.step_costs(choice, chosen[-1]))]))
    return np.sort(np.array(chosen, np.int64))


class _Chains:
    """For each of P packets, where decoding must begin to show its picture."""

    def __init__(self, packets: PacketIndex) -> None:
        restarts = np.flatnonzero(packets.is_restart_P)
        number = np.searchsorted(restarts, np.arange(packets.num_packets), side="right") - 1
        shown_at = packets.pts_P
        is_before = np.asarray(shown_at < shown_at[restarts[number]])
        self.is_leading_P = is_before & np.asarray(number > 0)
        """Shown before the restart that it follows in decoding order."""
        self.first_P: Integers = restarts[number - self.is_leading_P]


class _Runs:
    """What runs of ``length`` neighbouring frames cost, for every first frame."""

    def __init__(self, probe: VideoProbe, length: int) -> None:
        packets, chains = probe.packets, _Chains(probe.packets)
        position = _packets_of_frames(packets)
        is_paid = packets.is_reference_P & ~chains.is_leading_P
        self._num_references: Integers = np.concatenate([[0], np.cumsum(is_paid)])
        windows = np.lib.stride_tricks.sliding_window_view(position, length)
        self._last: Integers = windows.max(axis=1)
        self._first = chains.first_P[windows].min(axis=1)
        self._num_extra: Integers = (~is_paid[windows]).sum(axis=1)
        hangs_on_one = chains.first_P[windows].max(axis=1) == self._first
        self._is_allowed: Flags = hangs_on_one & ~chains.is_leading_P[windows].any(axis=1)

    def between(self, first: int, last: int) -> Integers:
        """Allowed first frames from ``first`` to ``last``, in the decoding order of their ends."""
        starts = np.arange(first, min(last, len(self._last) - 1) + 1)
        starts = starts[self._is_allowed[starts]]
        return starts[np.argsort(self._last[starts], kind="stable")]

    def cost_alone(self, starts: Integers) -> Reals:
        """Packets that each run costs if nothing was decoded before."""
        paid = self._num_references[self._last[starts] + 1]
        costs = paid - self._num_references[self._first[starts]] + self._num_extra[starts]
        return np.asarray(costs, np.float64)

    def step_costs(self, before: Integers, start: int) -> Reals:
        """Packets that a run costs after each of some others; infinite where it is not later."""
        decoded = np.maximum(self._last[before] + 1, self._first[start])
        paid = self._num_references[self._last[start] + 1] - self._num_references[decoded]
        costs = paid + self._num_extra[start]
        return np.where(self._last[before] < self._last[start], costs, np.inf)

    def best_before(self, before: Integers, totals: Reals, starts: Integers) -> Reals:
        """Smallest total of each run after any of some others, which cost ``totals`` so far.

        Linear in the number of runs: either the other one lies in an earlier chain, or both share
        their chain and then its references are paid only once.
        """
        num_before = np.searchsorted(self._last[before], self._last[starts])
        num_earlier = np.searchsorted(self._last[before], self._first[starts])
        lowest = np.concatenate([[np.inf], np.minimum.accumulate(totals)])
        paid = self._num_references[self._last[starts] + 1]
        apart = lowest[num_earlier] + paid - self._num_references[self._first[starts]]
        together = _lowest_within(
            totals - self._num_references[self._last[before] + 1], num_earlier, num_before
        )
        lowest_total: Reals = np.minimum(apart, together + paid) + self._num_extra[starts]
        return lowest_total


def _lowest_within(values: Reals, first: Integers, end: Integers) -> Reals:
    """Minimum of ``values[first:end]`` for each pair; infinite where that is empty.

    ``first`` and ``end`` ascend, and ranges with the same ``first`` only grow: a running minimum
    that starts anew with each ``first`` finds all.
    """
    lowest = np.full(len(first), np.inf)
    for place in np.unique(first):
        group = np.flatnonzero(first == place)
        running = np.minimum.accumulate(values[place : end[group[-1]]])
        is_filled = end[group] > place
        lowest[group[is_filled]] = running[end[group[is_filled]] - place - 1]
    return lowest


def _snapped_plan(probe: VideoProbe, targets: Integers, max_snap_seconds: float) -> DecodePlan:
    times = np.array(probe.pts_seconds)
    tolerance = snap_tolerance(probe.duration_seconds, len(targets), max_snap_seconds)
    places = cheapest_places(
        probe,
        targets,
        length=1,
        earliest=np.searchsorted(times, times[targets] - tolerance),
        latest=np.searchsorted(times, times[targets] + tolerance, side="right") - 1,
    )
    return _cheaper_plan(probe, targets, places, length=1)


def _clips_plan(probe: VideoProbe, settings: PreprocessSettings) -> DecodePlan:
    """Runs in equal parts of the video, each starting where that costs least."""
    length = min(settings.clip_frames, probe.num_frames)
    num_clips = min(settings.num_clips, probe.num_frames // length)
    edges = np.linspace(0, probe.num_frames, num_clips + 1).astype(np.int64)
    lowest, highest = edges[:-1], edges[1:] - length
    centres = (lowest + highest) // 2
    times = np.array(probe.pts_seconds)
    snap = settings.max_snap_seconds
    starts = cheapest_places(
        probe,
        centres,
        length=length,
        earliest=np.maximum(lowest, np.searchsorted(times, times[centres] - snap)),
        latest=np.minimum(highest, np.searchsorted(times, times[centres] + snap, side="right") - 1),
    )
    return _cheaper_plan(probe, centres, starts, length=length)


def _cheaper_plan(
    probe: VideoProbe, targets: Integers, places: Integers | None, *, length: int
) -> DecodePlan:
    """The plan of the places found, if it costs less than that of the exact ones."""
    exact = frames_plan(probe, _run_frames(targets, length))
    if places is None:
        return exact
    times = np.array(probe.pts_seconds)
    moved = float(np.abs(times[places] - times[targets]).max())
    snapped = frames_plan(probe, _run_frames(places, length), largest_snap_seconds=moved)
    return snapped if snapped.num_packets < exact.num_packets else exact


def _run_frames(starts: Integers, length: int) -> Integers:
    return (starts[:, None] + np.arange(length)).ravel()


def _packets_of_frames(packets: PacketIndex) -> Integers:
    """Position of each shown frame's packet."""
    shown = np.flatnonzero(packets.frame_index_P >= 0)
    positions = np.empty(len(shown), np.int64)
    positions[packets.frame_index_P[shown]] = shown
    return positions


def _covered(first: Integers, last: Integers, length: int) -> Flags:
    """Which of ``length`` places lie in any of the ranges ``first..last``, ends included."""
    is_range = first <= last
    edges = np.zeros(length + 1, np.int64)
    np.add.at(edges, first[is_range], 1)
    np.add.at(edges, last[is_range] + 1, -1)
    return np.cumsum(edges[:-1]) > 0
