"""Plan which frames are decoded, and which packets that needs: pure arithmetic.

A frame costs the references between the last restart and itself, unless earlier wanted frames need
them too; a picture to which no other refers costs only itself, and only if it is wanted.

The sampling ``spread`` begins with even positions and lets each sample move to a cheaper frame
nearby, so that all samples together cost least (dynamic programming; of equal costs the most even
choice wins). A sample may move

- never farther than ``max_snap_seconds``;
- in videos up to 15 s by half the distance between two samples, so that they stay evenly spread;
- in longer videos by one second more for every six seconds of video. With a key frame every ten
  seconds, the default of encoders, the cost then does not grow with the length of the video.
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


def plan_samples(probe: VideoProbe, settings: PreprocessSettings) -> DecodePlan:
    """Plan the frames of ``settings.sampling`` and the cheapest way to decode them."""
    num_frames = probe.num_frames
    if settings.sampling == "all":
        return plan_frames(probe, np.arange(num_frames))
    if settings.sampling == "clips":
        return _plan_clips(probe, settings)
    positions = space_evenly(num_frames, settings.num_frames)
    if settings.sampling == "uniform" or len(positions) == num_frames:
        return plan_frames(probe, positions)
    return _plan_snapped(probe, positions, settings.max_snap_seconds)


def plan_frames(
    probe: VideoProbe, frame_indices: Integers, *, largest_snap_seconds: float = 0.0
) -> DecodePlan:
    """Plan the fewest packets that give exactly these frames.

    Args:
        probe: the video.
        frame_indices: wanted frames, ascending and distinct.
        largest_snap_seconds: value for the plan; the largest move of a frame.
    """
    packets = probe.packets
    wanted = _locate_packets(packets)[frame_indices]
    chains = _Chains(packets)
    first = chains.first_P[wanted]
    is_leading = chains.is_leading_P[wanted]
    # Pictures that trail a restart need none of the pictures that lead it.
    trailing = _mark_covered(first[~is_leading], wanted[~is_leading], packets.num_packets)
    leading = _mark_covered(first[is_leading], wanted[is_leading], packets.num_packets)
    is_needed = packets.is_reference_P & (leading | (trailing & ~chains.is_leading_P))
    is_needed[wanted] = True
    # Decoding starts again at a restart if no wanted picture depends on both sides.
    is_bridged = _mark_covered(first + 1, wanted, packets.num_packets)
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


def space_evenly(num_frames: int, num_samples: int) -> Integers:
    """Spread up to ``num_samples`` distinct positions evenly over ``num_frames``."""
    positions = np.linspace(0, num_frames - 1, min(num_samples, num_frames))
    return positions.round().astype(np.int64)


def compute_tolerance(duration_seconds: float, num_samples: int, max_snap_seconds: float) -> float:
    """Compute the seconds by which a sample may move; see the top of this file."""
    half_spacing = duration_seconds / max(1, num_samples - 1) / 2
    beyond = (duration_seconds - _SHORT_SECONDS) / _SECONDS_PER_SECOND_OF_SNAP
    return min(max_snap_seconds, max(half_spacing, beyond))


def find_cheapest(
    probe: VideoProbe, targets: Integers, *, length: int, earliest: Integers, latest: Integers
) -> Integers | None:
    """Find the starts of runs of ``length`` frames so that all runs cost the fewest packets.

    Run i starts between ``earliest[i]`` and ``latest[i]``; of equal costs, the starts nearest to
    ``targets`` (sum of squared seconds) win. Runs follow each other in decoding order, and each
    depends on one restart: runs across a restart or with a picture that leads it are not allowed.

    Returns:
        First frame of each run; None: some run has no allowed start.
    """
    runs = _Runs(probe, length)
    choices = [runs.between(first, last) for first, last in zip(earliest, latest, strict=True)]
    times = np.array(probe.pts_seconds)
    reach = max(
        1e-9, float(np.max([times[latest] - times[targets], times[targets] - times[earliest]]))
    )
    totals: list[Reals] = []
    for target, choice in zip(targets, choices, strict=True):
        # The sum is below one packet, so that it only decides between equal costs.
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
    """For each of P packets, the packet at which decoding must begin to show its picture."""

    def __init__(self, packets: PacketIndex) -> None:
        restarts = np.flatnonzero(packets.is_restart_P)
        number = np.searchsorted(restarts, np.arange(packets.num_packets), side="right") - 1
        shown_at = packets.pts_P
        is_before = np.asarray(shown_at < shown_at[restarts[number]])
        self.is_leading_P = is_before & np.asarray(number > 0)
        """Whether it is shown before the restart that it follows in decoding order."""
        self.first_P: Integers = restarts[number - self.is_leading_P]


class _Runs:
    """Costs of runs of ``length`` neighbouring frames, for every first frame."""

    def __init__(self, probe: VideoProbe, length: int) -> None:
        packets, chains = probe.packets, _Chains(probe.packets)
        position = _locate_packets(packets)
        is_paid = packets.is_reference_P & ~chains.is_leading_P
        self._num_references: Integers = np.concatenate([[0], np.cumsum(is_paid)])
        windows = np.lib.stride_tricks.sliding_window_view(position, length)
        self._last: Integers = windows.max(axis=1)
        self._first = chains.first_P[windows].min(axis=1)
        self._num_extra: Integers = (~is_paid[windows]).sum(axis=1)
        hangs_on_one = chains.first_P[windows].max(axis=1) == self._first
        self._is_allowed: Flags = hangs_on_one & ~chains.is_leading_P[windows].any(axis=1)

    def between(self, first: int, last: int) -> Integers:
        """List allowed first frames from ``first`` to ``last``, in decoding order of their ends."""
        starts = np.arange(first, min(last, len(self._last) - 1) + 1)
        starts = starts[self._is_allowed[starts]]
        return starts[np.argsort(self._last[starts], kind="stable")]

    def cost_alone(self, starts: Integers) -> Reals:
        """Count the packets that each run costs if nothing was decoded before."""
        paid = self._num_references[self._last[starts] + 1]
        costs = paid - self._num_references[self._first[starts]] + self._num_extra[starts]
        return np.asarray(costs, np.float64)

    def step_costs(self, before: Integers, start: int) -> Reals:
        """Count the packets that a run costs after each of some others; infinite if not later."""
        decoded = np.maximum(self._last[before] + 1, self._first[start])
        paid = self._num_references[self._last[start] + 1] - self._num_references[decoded]
        costs = paid + self._num_extra[start]
        return np.where(self._last[before] < self._last[start], costs, np.inf)

    def best_before(self, before: Integers, totals: Reals, starts: Integers) -> Reals:
        """Find the smallest total of each run after any of some others, which cost ``totals``.

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
    """Find the minimum of ``values[first:end]`` for each pair; infinite if the range is empty.

    ``first`` and ``end`` ascend, and ranges with the same ``first`` only grow: a running minimum
    that starts again with each ``first`` finds all.
    """
    lowest = np.full(len(first), np.inf)
    for start in np.unique(first):
        group = np.flatnonzero(first == start)
        running = np.minimum.accumulate(values[start : end[group[-1]]])
        is_filled = end[group] > start
        lowest[group[is_filled]] = running[end[group[is_filled]] - start - 1]
    return lowest


def _plan_snapped(probe: VideoProbe, targets: Integers, max_snap_seconds: float) -> DecodePlan:
    times = np.array(probe.pts_seconds)
    tolerance = compute_tolerance(probe.duration_seconds, len(targets), max_snap_seconds)
    positions = find_cheapest(
        probe,
        targets,
        length=1,
        earliest=np.searchsorted(times, times[targets] - tolerance),
        latest=np.searchsorted(times, times[targets] + tolerance, side="right") - 1,
    )
    return _choose_cheaper(probe, targets, positions, length=1)


def _plan_clips(probe: VideoProbe, settings: PreprocessSettings) -> DecodePlan:
    """Plan one run in each of several equal intervals, at the start that costs least."""
    length = min(settings.clip_frames, probe.num_frames)
    num_clips = min(settings.num_clips, probe.num_frames // length)
    edges = np.linspace(0, probe.num_frames, num_clips + 1).astype(np.int64)
    lowest, highest = edges[:-1], edges[1:] - length
    centres = (lowest + highest) // 2
    times = np.array(probe.pts_seconds)
    snap = settings.max_snap_seconds
    starts = find_cheapest(
        probe,
        centres,
        length=length,
        earliest=np.maximum(lowest, np.searchsorted(times, times[centres] - snap)),
        latest=np.minimum(highest, np.searchsorted(times, times[centres] + snap, side="right") - 1),
    )
    return _choose_cheaper(probe, centres, starts, length=length)


def _choose_cheaper(
    probe: VideoProbe, targets: Integers, positions: Integers | None, *, length: int
) -> DecodePlan:
    """Choose the plan of the found starts if it costs less than the plan of the exact ones."""
    exact = plan_frames(probe, _expand_runs(targets, length))
    if positions is None:
        return exact
    times = np.array(probe.pts_seconds)
    moved = float(np.abs(times[positions] - times[targets]).max())
    snapped = plan_frames(probe, _expand_runs(positions, length), largest_snap_seconds=moved)
    return snapped if snapped.num_packets < exact.num_packets else exact


def _expand_runs(starts: Integers, length: int) -> Integers:
    return (starts[:, None] + np.arange(length)).ravel()


def _locate_packets(packets: PacketIndex) -> Integers:
    """Locate each shown frame's packet: its index in decoding order."""
    shown = np.flatnonzero(packets.frame_index_P >= 0)
    positions = np.empty(len(shown), np.int64)
    positions[packets.frame_index_P[shown]] = shown
    return positions


def _mark_covered(first: Integers, last: Integers, length: int) -> Flags:
    """Mark which of ``length`` indices lie in any of the ranges ``first..last``, ends included."""
    is_range = first <= last
    edges = np.zeros(length + 1, np.int64)
    np.add.at(edges, first[is_range], 1)
    np.add.at(edges, last[is_range] + 1, -1)
    return np.cumsum(edges[:-1]) > 0
