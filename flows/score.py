"""Flow: folder of videos + model -> result table."""

from collections.abc import Collection
from pathlib import Path

from prefect import flow

from flows.preprocess import preprocess, store_layout
from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import MismatchError
from reelcheck.settings import differences, settings_hash
from storage.checkpoints import read_card
from storage.layout import ModelLayout, ScoreLayout
from storage.tables import Row
from tasks.discover import find_files
from tasks.score import load_detector, score_shard, write_scores


@flow(name="score", validate_parameters=True)
def score(
    source: Path,
    model: Path,
    out: Path,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
) -> list[Row]:
    """Score every file of a folder; a second run does what is missing.

    Args:
        source: folder of videos (searched through), or one video.
        model: a checkpoint folder.
        out: folder for ``scores.parquet``, ``scores.csv`` and the work files.
        settings: None: the model's own preprocessing. Anything else is refused.
        run: how to use the machine; None: the defaults.

    Returns:
        The rows of the result table, one per input file.

    Raises:
        MismatchError: the settings given are not those that the model was trained with.
    """
    card = read_card(ModelLayout(model))
    settings = settings or card.preprocessing
    require_same_settings(card.preprocessing, settings, model_id=card.model_id)
    # First, because a model that cannot be loaded makes all the rest useless.
    load_detector(model, card.model_id)
    output = ScoreLayout(out)
    layout = store_layout(output.store_dir, settings)
    preprocess(source, output.store_dir, settings=settings, run=run, exclude=out)
    files = _files(source, exclude=out)
    for shard in layout.done_shards():
        score_shard(shard, layout, ModelLayout(model), output)
    return write_scores(files, layout, ModelLayout(model), output)


def require_same_settings(
    trained: PreprocessSettings, wanted: PreprocessSettings, *, model_id: str
) -> None:
    """Refuse preprocessing that the model was not trained with.

    Raises:
        MismatchError: naming every setting that differs.
    """
    if trained == wanted:
        return
    found = differences(trained.model_dump(), wanted.model_dump())
    raise MismatchError(
        f"model {model_id} was trained with preprocessing {settings_hash(trained)}, asked for is "
        f"{settings_hash(wanted)} ({'; '.join(found)}); leave those settings out, or train "
        "a model with them"
    )


def _files(source: Path, *, exclude: Path) -> Collection[tuple[str, str]]:
    return [(file.root, file.path) for file in find_files(source, exclude=exclude)]
