"""What can be checked in a model, an evaluation, a registry and a scoring output."""

from collections.abc import Iterator
from functools import partial

from storage.checked.names import read_names
from storage.checkpoints import read_card, read_checked_card
from storage.layout import ModelLayout, RegistryLayout
from storage.outputs import EvaluationLayout, ScoreLayout
from storage.schemas import EVALUATED, LEARNED, SCORES, VALIDATION
from tasks.scoring.answers import require_answer
from tasks.verification.checks import (
    Check,
    check_document,
    check_table,
    keep_existing,
    list_sum_checks,
)
from tasks.verification.store import require_split


def list_model_checks(model: ModelLayout) -> Iterator[Check]:
    """List the checks of a checkpoint folder, its folds and its evaluations."""
    if model.card_path.exists() or model.weights_path.exists():
        yield Check(model.card_path, partial(read_card, model))
        yield Check(model.weights_path, partial(read_checked_card, model))
    yield from keep_existing(
        iter(
            (
                Check(model.split_path, partial(require_split, model.split_path)),
                check_table(model.validation_path, VALIDATION),
                check_table(model.learned_path, LEARNED),
                check_document(model.classification_path),
                check_document(model.gate_path),
            )
        )
    )
    yield from list_sum_checks(model.path)
    for folder in sorted(model.folds_dir.glob("*/")):
        yield from list_model_checks(ModelLayout(folder))
    for folder in sorted(model.evaluations_dir.glob("*/")):
        yield from list_evaluation_checks(EvaluationLayout(folder))


def list_evaluation_checks(output: EvaluationLayout) -> Iterator[Check]:
    """List the checks of an evaluation."""
    yield from keep_existing(
        iter((check_table(output.videos_path, EVALUATED), check_document(output.evaluation_path)))
    )
    for path in sorted(output.path.glob("robustness/*.parquet")):
        yield check_table(path, EVALUATED)
    yield from list_sum_checks(output.path)


def list_registry_checks(registry: RegistryLayout) -> Iterator[Check]:
    """List the checks of a registry and of its versions."""
    for path in (registry.champion_path, registry.withdrawn_path):
        yield Check(path, partial(read_names, path))
    yield from keep_existing(
        iter((check_document(registry.decision_path), check_document(registry.drift_path)))
    )
    for name in registry.version_names():
        yield from list_model_checks(registry.version(name))


def list_score_checks(output: ScoreLayout) -> Iterator[Check]:
    """List the checks of a scoring output: each answer with its picture, and the tables."""
    for path in sorted((output.path / "results").glob("*/[!.]*.json")):
        run = partial(require_answer, output, path.parent.name, path.stem)
        yield Check(path, run, marker=path)
    yield from keep_existing(
        iter((check_table(output.parquet_path, SCORES), check_document(output.summary_path)))
    )
    yield from list_sum_checks(output.path)
