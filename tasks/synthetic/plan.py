"""What a synthetic data set consists of: its settings and, drawn from them, its list of videos."""

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

from reelcheck.errors import SettingsError
from tasks.synthetic.clip import Kind
from tasks.synthetic.fake import FakeKind

_FAKE_KINDS: Final[tuple[FakeKind, ...]] = ("swap", "mouth", "selfblend")
_MIN_FRAMES: Final = 12
_FRAME_SPREAD: Final = 4
_CRF_RANGE: Final = (17, 24)
_IDENTITY_STREAM, _CLIP_STREAM = range(2)


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What a synthetic data set contains; equal settings give equal files.

    Attributes:
        num_identities: Number of people, even: each two swap faces with one another only.
        clips_per_identity: Clips per person; each exists as a real and as a fake twin.
        num_frames: Mean length of a clip; one has up to 4 frames more or less, never below 12.
        height: Frame height in pixels, even; the width is 4/3 of it.
        seed: Seed of everything that is drawn by chance.
        fps: Frames per second that the files are marked with.
    """

    num_identities: int = 32
    clips_per_identity: int = 2
    num_frames: int = 14
    height: int = 192
    seed: int = 0
    fps: int = 25

    def __post_init__(self) -> None:
        """Refuse values that cannot be rendered before any file is written."""
        if self.num_identities < 2 or self.num_identities % 2:
            raise SettingsError(
                f"num_identities must be even and positive, got {self.num_identities}"
            )
        if self.height < 64 or self.height % 2:
            raise SettingsError(f"height must be even and at least 64 pixels, got {self.height}")
        if min(self.clips_per_identity, self.num_frames, self.fps) < 1 or self.seed < 0:
            raise SettingsError(f"counts and fps must be positive, seed not negative: {self}")


@dataclass(frozen=True, kw_only=True)
class Video:
    """One file to render and its row in the table; paths are relative to the videos' folder."""

    path: str
    label: Literal["real", "fake"]
    group: str
    source: str
    kind: Kind
    identity_seed: int
    donor_seed: int
    clip_seed: int
    num_frames: int
    height: int
    fps: int
    crf: int


def plan_videos(settings: SyntheticSettings) -> list[Video]:
    """Return all videos of a set, each twin right after its real one."""
    clips = product(range(settings.num_identities), range(settings.clips_per_identity))
    return [video for person, clip in clips for video in _plan_twins(settings, person, clip)]


def _plan_twins(settings: SyntheticSettings, person: int, clip: int) -> tuple[Video, Video]:
    """Return a real clip and its fake, which share everything but the face that is shown."""
    key = np.random.SeedSequence(settings.seed, spawn_key=(_CLIP_STREAM, person, clip))
    rng = np.random.default_rng(key)
    mean = settings.num_frames
    num_frames = int(rng.integers(mean - _FRAME_SPREAD, mean + _FRAME_SPREAD + 1))
    clip_seed, crf = int(rng.integers(2**32)), int(rng.integers(*_CRF_RANGE, endpoint=True))
    kind = _FAKE_KINDS[(person + clip) % len(_FAKE_KINDS)]
    # Donors come from the same pair, so that no identity is shared between two groups.
    donor = person ^ 1

    def video(path: str, label: Literal["real", "fake"], kind: Kind, source: str) -> Video:
        return Video(
            path=path,
            label=label,
            group=f"pair{person // 2:03d}",
            source=source,
            kind=kind,
            identity_seed=_identity_seed(settings.seed, person),
            donor_seed=_identity_seed(settings.seed, donor),
            clip_seed=clip_seed,
            num_frames=max(_MIN_FRAMES, num_frames),
            height=settings.height,
            fps=settings.fps,
            crf=crf,
        )

    stem = f"id{person:03d}_clip{clip:02d}"
    real = video(f"real/{stem}.mp4", "real", "real", "")
    return real, video(f"fake/{stem}_{kind}.mp4", "fake", kind, real.path)


def _identity_seed(seed: int, person: int) -> int:
    # 64 bits: two people of one set must never look the same by chance.
    key = np.random.SeedSequence(seed, spawn_key=(_IDENTITY_STREAM, person))
    return int(key.generate_state(1, np.uint64)[0])
