"""The whole pipeline in one call: on rendered faces, or on somebody's own labelled videos.

Rendered faces are drawn and their fakes are blended drawings: that demo proves that the pipeline
works, says nothing about the detection of real deepfakes, and downloads nothing but the face
detector's weights. The demo on own videos measures a small pretrained detector on those that it has
not learned from, and says in one sentence what the figure means.
"""

from dataclasses import dataclass
from pathlib import Path

from flows.evaluate import evaluate
from flows.preprocess import locate_store, preprocess
from flows.score import score
from flows.split import split_store
from flows.train import train
from models.metrics.evaluation import Evaluation
from reelcheck.config import RunSettings, SplitSettings
from reelcheck.errors import SettingsError
from reelcheck.progress import show_progress
from reelcheck.recipes import load_recipe
from storage.atomic import write_text
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import ScoreLayout
from storage.rows import ScoreRow
from storage.schemas import VIDEOS
from storage.tables import read_rows
from tasks.evaluation.sections import describe_auc
from tasks.evaluation.unseen import read_known_videos
from tasks.registry.retraining import choose_preprocessing
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset
from tasks.training.start import find_initial_weights

SYNTHETIC_NOTE = (
    "SYNTHETIC DATA: trained and measured on rendered faces. It shows that the pipeline works and "
    "says nothing about real deepfakes."
)
_RENDERED_RECIPE = "b3-transformer-fast"
FACES_RECIPE = "lite-transformer"
"""Trained on own videos: a pretrained network that learns on a CPU in minutes."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Outputs of the demo."""

    model: Path
    table: Path
    """Result table of the scored videos."""
    page: Path
    """The same for people."""
    report: Path
    """The figures for people."""
    figures: Evaluation
    scores: list[ScoreRow]
    meaning: str
    """What the figures mean, in one sentence."""


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
    figures = _learn(
        labels.parent / "videos",
        out,
        labels=labels,
        recipe=_RENDERED_RECIPE,
        seed=seed,
        run=run,
        notes=(SYNTHETIC_NOTE,),
    )
    scores = score(out / "inbox" / "videos", out / "model", out / "scores", run=run).rows
    return _gather(out, figures, scores, meaning=SYNTHETIC_NOTE)


def run_demo_on_faces(
    faces: Path,
    out: Path,
    *,
    labels: Path | None = None,
    recipe: str = FACES_RECIPE,
    seed: int = 0,
    run: RunSettings | None = None,
) -> DemoResult:
    """Preprocess, split, train and evaluate on own videos, and score those of the test part.

    Other videos are not scored: the detector has learned from them, and would look too good.

    Args:
        faces: folder of labelled videos, searched through.
        out: folder for everything; what is written lies in its folder ``faces``.
        labels: labels table, as for ``preprocess``; None: folder names.
        recipe: name of the recipe that is trained.
        seed: seed of the split and the training.
        run: how to use the machine.

    Raises:
        SettingsError: the folder for everything holds the demo on another folder of videos.
        SourceError: the folder or the labels cannot be used.
        StoreError: too few videos or people for train, val and test.
        MismatchError: the model there was trained on other videos or with other settings.
        WeightsError: the weights that the recipe starts from cannot be had.
    """
    place = out / "faces"
    layout = _locate_crops(place, recipe)
    _require_same_source(layout, faces, out)
    figures = _learn(faces, place, labels=labels, recipe=recipe, seed=seed, run=run, exclude=out)
    known = read_known_videos(layout, split=None).values()
    tested = [f"{row['root']}/{row['path']}" for row in known if row["split"] == "test"]
    rows = score(tested, place / "model", place / "scores", run=run).rows
    root = faces.resolve()
    # Each file was named alone; people know it by its path in their folder.
    scores: list[ScoreRow] = [
        {**row, "path": Path(row["root"], row["path"]).relative_to(root).as_posix()} for row in rows
    ]
    are_people_named = all(row["identity"] or row["group"] for row in known)
    meaning = describe_auc(figures, are_people_named=are_people_named)
    return _gather(place, figures, scores, meaning=meaning)


def _learn(
    source: Path,
    out: Path,
    *,
    labels: Path | None,
    recipe: str,
    seed: int,
    run: RunSettings | None,
    exclude: Path | None = None,
    notes: tuple[str, ...] = (),
) -> Evaluation:
    """Preprocess, split, train and evaluate; a second run does what is missing."""
    store, model = out / "store", out / "model"
    chosen = load_recipe(recipe)
    settings = chosen.train.model_copy(update={"seed": seed})
    if not ModelLayout(model).card_path.exists():
        # First, because without them all the rest would be for nothing.
        find_initial_weights(settings)
    crops = choose_preprocessing(settings)
    preprocess(source, store, labels=labels, settings=crops, run=run, exclude=exclude)
    own = locate_store(store, crops).preprocessing_hash
    split_store(store, SplitSettings(seed=seed), own)
    train(store, model, settings=settings, engine=chosen.engine, preprocessing=own, notes=notes)
    return evaluate(store, model, preprocessing=own, report=True)


def _locate_crops(out: Path, recipe: str) -> StoreLayout:
    """Locate what the recipe learns from."""
    return locate_store(out / "store", choose_preprocessing(load_recipe(recipe).train))


def _require_same_source(layout: StoreLayout, source: Path, out: Path) -> None:
    """Refuse to add another folder to a demo: a store holds several, but a figure is of one.

    Raises:
        SettingsError: the demo is on another folder.
    """
    if not layout.videos_path.exists():
        return
    others = {row["root"] for row in read_rows(layout.videos_path, VIDEOS, columns=("root",))}
    own = str(source.resolve())
    if others - {own}:
        raise SettingsError(
            f"{out} holds the demo on {min(others - {own})}; give another folder with --out, or "
            "delete that one"
        )


def _gather(out: Path, figures: Evaluation, scores: list[ScoreRow], *, meaning: str) -> DemoResult:
    """Gather what the demo has left in its folder."""
    model, output = ModelLayout(out / "model"), ScoreLayout(out / "scores")
    return DemoResult(
        model=model.path,
        table=output.csv_path,
        page=output.report_path,
        report=model.evaluation("test", figures["split_hash"]).report_path,
        figures=figures,
        scores=scores,
        meaning=meaning,
    )


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
