"""The plan against brute force, on streams of any structure."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reelcheck.config import PreprocessSettings
from reelcheck.records import DecodePlan, PacketIndex, VideoProbe
from tasks.faces.decoding.plan import (
    compute_tolerance,
    find_cheapest,
    plan_frames,
    plan_samples,
    space_evenly,
)

FPS = 25


@dataclass(frozen=True)
class Picture:
    """One packet: when its picture is shown and what it needs."""

    shown_at: int
    needs: frozenset[int]
    """Positions of packets that it is predicted from."""
    is_restart: bool = False
    is_reference: bool = True


def stream_of(groups: Sequence[tuple[int, Sequence[int], bool]]) -> list[Picture]:
    """Packets of a stream in decoding order.

    Each group is (pictures that lead its key frame, B-pictures before each P-picture, whether the
    first B-picture of several is itself a reference).
    """
    pictures: list[Picture] = []
    now = 0
    anchor = 0
    for max_leading, b_counts, is_pyramid in groups:
        num_leading = max_leading if pictures else 0
        key = len(pictures)
        pictures.append(Picture(now + num_leading, frozenset(), is_restart=True))
        for number in range(num_leading):
            needs = frozenset({anchor, key})
            pictures.append(Picture(now + number, needs, is_reference=False))
        now += num_leading + 1
        anchor = key
        for b_count in b_counts:
            p = len(pictures)
            pictures.append(Picture(now + b_count, frozenset({anchor})))
            has_middle = is_pyramid and b_count > 1
            if has_middle:
                pictures.append(Picture(now + b_count // 2, frozenset({anchor, p})))
            needs = frozenset({anchor, p, p + has_middle})
            others = [b for b in range(b_count) if not (has_middle and b == b_count // 2)]
            pictures += [Picture(now + b, needs, is_reference=False) for b in others]
            now += b_count + 1
            anchor = p
    return pictures


def probe_of(pictures: Sequence[Picture], *, codec: str = "hevc", fps: float = FPS) -> VideoProbe:
    shown_at = np.array([picture.shown_at for picture in pictures])
    assert sorted(shown_at) == list(range(len(pictures)))
    return VideoProbe(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec=codec,
        pixel_format="yuv420p",
        width=64,
        height=64,
        pixel_aspect=1.0,
        average_fps=fps,
        pts_seconds=tuple(number / fps for number in range(len(pictures))),
        has_pts=True,
        is_only_video_stream=True,
        has_edit_list=False,
        is_interlaced=False,
        packets=PacketIndex(
            frame_index_P=shown_at,
            pts_P=shown_at * 512,
            is_restart_P=np.array([picture.is_restart for picture in pictures]),
            is_reference_P=np.array([picture.is_reference for picture in pictures]),
        ),
    )


def long_stream(*, seconds: float, group_seconds: float) -> VideoProbe:
    """P-pictures with one B-picture each, closed groups."""
    num_pairs = int(group_seconds * FPS) // 2
    num_groups = round(seconds / group_seconds)
    return probe_of(stream_of([(0, [1] * num_pairs, False)] * num_groups))


groups = st.tuples(st.integers(0, 2), st.lists(st.integers(0, 3), max_size=4), st.booleans())
streams = st.lists(groups, min_size=1, max_size=4).map(stream_of).filter(lambda s: len(s) <= 24)


def sent(plan: DecodePlan) -> list[int]:
    return [int(position) for run in plan.runs for position in run]


def closure(pictures: Sequence[Picture], wanted: Iterator[int]) -> set[int]:
    """Packets without which the wanted ones cannot be decoded."""
    needed: set[int] = set()
    pending = list(wanted)
    while pending:
        position = pending.pop()
        if position not in needed:
            needed.add(position)
            pending += pictures[position].needs
    return needed


@given(streams, st.data())
def test_frames_plan_sends_all_that_is_needed_and_no_picture_that_nobody_refers_to(
    pictures: list[Picture], data: st.DataObject
) -> None:
    frames = sorted(data.draw(st.sets(st.integers(0, len(pictures) - 1), min_size=1)))
    plan = plan_frames(probe_of(pictures), np.array(frames))
    positions = sent(plan)
    assert positions == sorted(set(positions))
    wanted = {p for p, picture in enumerate(pictures) if picture.shown_at in frames}
    assert closure(pictures, iter(wanted)) <= set(positions)
    assert all(pictures[p].is_reference for p in set(positions) - wanted)
    assert plan.num_packets == len(positions) <= plan.num_packets_in_order
    assert plan.num_packets_in_order == max(wanted) + 1


@given(streams, st.data())
def test_frames_plan_each_run_can_be_decoded_by_itself(
    pictures: list[Picture], data: st.DataObject
) -> None:
    frames = sorted(data.draw(st.sets(st.integers(0, len(pictures) - 1), min_size=1)))
    for run in plan_frames(probe_of(pictures), np.array(frames)).runs:
        assert pictures[run[0]].is_restart
        own = {int(position) for position in run}
        for position in own:
            assert pictures[position].needs <= own
        # A run is worth it: what it ends with is wanted.
        assert pictures[run[-1]].shown_at in frames


def test_frames_plan_of_one_frame_late_in_a_video_decodes_its_group_only() -> None:
    probe = long_stream(seconds=100, group_seconds=10)
    plan = plan_frames(probe, np.array([probe.num_frames - 1]))
    assert plan.num_packets <= 10 * FPS / 2 + 2 < plan.num_packets_in_order / 10


def test_frames_plan_h264_begins_with_the_first_packet_which_names_the_encoder() -> None:
    pictures = stream_of([(0, [1] * 5, False)] * 3)
    plan = plan_frames(probe_of(pictures, codec="h264"), np.array([25]))
    assert list(plan.runs[0]) == [0]
    assert len(plan.runs) == 2
    from_start = plan_frames(probe_of(pictures, codec="h264"), np.array([3]))
    assert len(from_start.runs) == 1


def test_frames_plan_stream_of_which_nothing_is_known_is_decoded_in_order() -> None:
    pictures = [Picture(n, frozenset(), is_restart=n == 0) for n in range(50)]
    plan = plan_frames(probe_of(pictures), np.array([7, 40]))
    assert sent(plan) == list(range(41))
    assert len(plan.runs) == 1


def unevenness(probe: VideoProbe, starts: Sequence[int], targets: Sequence[int]) -> float:
    times = probe.pts_seconds
    return sum((times[s] - times[t]) ** 2 for s, t in zip(starts, targets, strict=True))


def restart_of(pictures: Sequence[Picture], position: int) -> int:
    return max(p for p in range(position + 1) if pictures[p].is_restart)


def leads(pictures: Sequence[Picture], position: int) -> bool:
    return pictures[position].shown_at < pictures[restart_of(pictures, position)].shown_at


@given(streams, st.integers(1, 4), st.integers(0, 4), st.sampled_from([1, 1, 2, 3]))
def test_cheapest_places_are_those_of_brute_force(
    pictures: list[Picture], num_targets: int, reach: int, length: int
) -> None:
    probe = probe_of(pictures)
    num_starts = len(pictures) - length + 1
    assume(num_starts >= num_targets)
    targets = space_evenly(num_starts, num_targets)
    earliest, latest = np.maximum(targets - reach, 0), np.minimum(targets + reach, num_starts - 1)
    if length > 1:  # as clips do: each in its own part
        assume(num_targets == 1 or targets[1] - targets[0] >= length)
        latest = np.minimum(latest, np.append(targets[1:] - length, num_starts - 1))
        earliest = np.maximum(earliest, targets)
        assume((earliest <= latest).all())
    position = {picture.shown_at: p for p, picture in enumerate(pictures)}

    def end(start: int) -> int:
        return max(position[frame] for frame in range(start, start + length))

    def is_allowed(starts: Sequence[int]) -> bool:
        frames = [f for s in starts for f in range(s, s + length)]
        ends = [end(start) for start in starts]
        hangs_on_one = all(
            len({restart_of(pictures, position[f]) for f in range(s, s + length)}) == 1
            for s in starts
        )
        leads_any = any(leads(pictures, position[f]) for f in frames)
        ascends = all(a < b for a, b in itertools.pairwise(ends))
        return hangs_on_one and ascends and not leads_any

    def cost(starts: Sequence[int]) -> int:
        frames = sorted({f for s in starts for f in range(s, s + length)})
        return plan_frames(probe, np.array(frames)).num_packets

    windows = [range(a, b + 1) for a, b in zip(earliest, latest, strict=True)]
    places = find_cheapest(probe, targets, length=length, earliest=earliest, latest=latest)
    options = [starts for starts in itertools.product(*windows) if is_allowed(starts)]
    if not options:
        assert places is None
        return
    asked = targets.tolist()
    best = min((cost(starts), unevenness(probe, starts, asked)) for starts in options)
    assert places is not None
    assert cost(places.tolist()) == best[0]
    # Sorting may only bring the places nearer to the targets.
    assert unevenness(probe, places.tolist(), asked) <= best[1] + 1e-9


@given(streams, st.integers(1, 8), st.floats(0, 2))
def test_spread_moves_no_sample_farther_than_the_tolerance(
    pictures: list[Picture], num_frames: int, max_snap_seconds: float
) -> None:
    probe = probe_of(pictures)
    settings = PreprocessSettings(
        num_frames=num_frames, min_sequence_frames=1, max_snap_seconds=max_snap_seconds
    )
    plan = plan_samples(probe, settings)
    assert len(plan.frame_indices) == min(num_frames, len(pictures))
    assert list(plan.frame_indices) == sorted(set(plan.frame_indices))
    tolerance = compute_tolerance(probe.duration_seconds, num_frames, max_snap_seconds)
    assert plan.largest_snap_seconds <= tolerance + 1e-9
    asked = space_evenly(len(pictures), num_frames)
    moves = [abs(a - b) / FPS for a, b in zip(plan.frame_indices, asked, strict=True)]
    assert max(moves) == pytest.approx(plan.largest_snap_seconds)


@given(streams, st.integers(1, 8))
def test_spread_never_costs_more_than_exact_places(
    pictures: list[Picture], num_frames: int
) -> None:
    values = {"num_frames": num_frames, "min_sequence_frames": 1}
    spread, uniform = (
        plan_samples(probe_of(pictures), PreprocessSettings(sampling=sampling, **values))
        for sampling in ("spread", "uniform")
    )
    assert spread.num_packets <= uniform.num_packets
    assert uniform.largest_snap_seconds == 0


def test_spread_of_a_short_video_leaves_out_the_pictures_nobody_refers_to() -> None:
    probe = long_stream(seconds=10, group_seconds=10)
    plan = plan_samples(probe, PreprocessSettings())
    assert plan.num_packets <= 0.55 * plan.num_packets_in_order
    assert plan.largest_snap_seconds <= 10 / 29 / 2


def test_spread_cost_does_not_grow_with_the_length() -> None:
    costs = {
        seconds: plan_samples(
            long_stream(seconds=seconds, group_seconds=10), PreprocessSettings()
        ).num_packets
        for seconds in (10, 20, 30, 60, 100, 300, 1200)
    }
    assert max(costs.values()) <= 2 * costs[10]
    assert costs[1200] <= costs[300] + 1 <= costs[10]


@pytest.mark.parametrize("seconds", [10, 60, 300])
def test_clips_are_runs_of_neighbours_that_do_not_overlap(seconds: int) -> None:
    settings = PreprocessSettings(sampling="clips")
    frames = plan_samples(long_stream(seconds=seconds, group_seconds=5), settings).frame_indices
    starts = frames[:: settings.clip_frames]
    assert len(starts) == settings.num_clips
    assert frames == tuple(s + i for s in starts for i in range(settings.clip_frames))


def test_clips_start_on_key_frames_where_these_are_near() -> None:
    probe = long_stream(seconds=120, group_seconds=5)
    settings = PreprocessSettings(sampling="clips")
    plan = plan_samples(probe, settings)
    keys = set(probe.packets.frame_index_P[probe.packets.is_restart_P].tolist())
    assert set(plan.frame_indices[:: settings.clip_frames]) <= keys
    # The last of a run may be a B-picture, which needs the one after it.
    assert plan.num_packets <= len(plan.frame_indices) + settings.num_clips


def test_clips_of_a_video_shorter_than_one_are_all_of_it() -> None:
    probe = probe_of(stream_of([(0, [1, 1], False)]))
    plan = plan_samples(probe, PreprocessSettings(sampling="clips"))
    assert plan.frame_indices == tuple(range(5))


@pytest.mark.parametrize("sampling", ["spread", "clips", "uniform", "all"])
def test_one_frame_is_a_plan(sampling: str) -> None:
    probe = probe_of(stream_of([(0, [], False)]))
    plan = plan_samples(probe, PreprocessSettings.model_validate({"sampling": sampling}))
    assert (plan.frame_indices, sent(plan)) == ((0,), [0])
