"""The whole pipeline on rendered faces; it downloads nothing but the face detector's weights.

The faces are drawn and the fakes are blended drawings: the demo proves that the pipeline works, and
says nothing about the detection of real deepfakes.
"""

from dataclasses import dataclass
from pathlib import Path

from flows.evaluate import evaluate
from flows.preprocess import preprocess
from flows.score import score
from flows.split import split_store
from flows.train import train
from models.metrics.evaluation import Evaluation
from reelcheck.config import RunSettings, SplitSettings
from reelcheck.progress import show_progress
from reelcheck.recipes import load_recipe
from storage.atomic import write_text
from storage.outputs import ScoreLayout
from storage.rows import ScoreRow
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset

SYNTHETIC_NOTE = (
    "SYNTHETIC DATA: trained and measured on rendered faces. It shows that the pipeline works and "
    "says nothing about real deepfakes."
)
_RECIPE = "b3-transformer-fast"


@dataclass(frozen=True)
class DemoResult:
    """Outputs of the demo."""

    model: Path
    table: Path
    figures: Evaluation
    scores: list[ScoreRow]


def run_demo(
    out: Path, *, num_identities: int = 40, seed: int = 0, run: RunSettings | None = None
) -> DemoResult:
    """Render, preprocess, split, train, evaluate, and score a folder with some bad files in it.

    Args:
        out: folder for everything.
        num_identities: rendered people, even.
        seed: seed of the faces, the split and the training.
        run: how to use the machine.

    Raises:
        SettingsError: the folder holds another demo, or a number is not allowed.
    """
    # Even seeds render training sets, odd seeds render inboxes: no face is in both.
    settings = SyntheticSettings(num_identities=num_identities, seed=2 * seed)
    labels = _render(out / "data", settings, description="render training videos")
    inbox = SyntheticSettings(num_identities=8, clips_per_identity=1, seed=2 * seed + 1)
    _render(out / "inbox", inbox, description="render inbox")
    _add_bad_files(out / "inbox" / "videos")
    store, model = out / "store", out / "model"
    preprocess(labels.parent / "videos", store, labels=labels, run=run)
    split_store(store, SplitSettings(seed=seed))
    recipe = load_recipe(_RECIPE).train
    train(store, model, settings=recipe.model_copy(update={"seed": seed}), notes=(SYNTHETIC_NOTE,))
    figures = evaluate(store, model, report=True)
    scored = score(out / "inbox" / "videos", model, out / "scores", run=run)
    return DemoResult(model, ScoreLayout(out / "scores").csv_path, figures, scored.rows)


def _render(folder: Path, settings: SyntheticSettings, *, description: str) -> Path:
    num_videos = settings.num_identities * settings.clips_per_identity * 2
    with show_progress(total=num_videos, description=description, unit="videos") as bar:
        return generate_dataset(folder, settings, on_video=lambda: bar.update(1))


def _add_bad_files(folder: Path) -> None:
    """Add files that every real folder has: they must become rows, never scores."""
    bad = folder / "bad"
    if not bad.exists():
        write_text(bad / "empty.mp4", "")
        write_text(bad / "notes renamed.mp4", "This is not a video.\n")
        video = min((folder / "real").glob("*.mp4"))
        (bad / "truncated.mp4").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
