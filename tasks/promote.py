"""Challenger against champion on the same held-out videos -> the pointer moves, or it does not."""

from dataclasses import dataclass

from prefect import task

from models.evaluation import Evaluation
from storage.checkpoints import set_champion
from storage.layout import RegistryLayout


@dataclass(frozen=True)
class Decision:
    """Whether the challenger was promoted, and why."""

    promoted: bool
    reason: str


@task(name="promote")
def promote(
    registry: RegistryLayout,
    challenger: str,
    challenger_metrics: Evaluation,
    champion: Evaluation | None,
) -> Decision:
    """Point ``champion`` at the challenger if it ranks better on the same videos.

    Args:
        registry: folder of versions.
        challenger: name of the new version.
        challenger_metrics: of the new version on the test part.
        champion: metrics of the version in use on the same part; None where there is none.
    """
    decision = decide(challenger_metrics, champion)
    if decision.promoted:
        set_champion(registry, challenger)
    return decision


def decide(challenger: Evaluation, champion: Evaluation | None) -> Decision:
    """Promote only what has a better AUC; equal models are not exchanged."""
    new_auc = challenger["metrics"]["auc"]
    if not isinstance(new_auc, int | float):
        return Decision(promoted=False, reason="the test part has one label only: no AUC")
    if champion is None:
        return Decision(promoted=True, reason=f"first model, test AUC {new_auc:.4f}")
    old_auc = champion["metrics"]["auc"]
    if not isinstance(old_auc, int | float):
        return Decision(promoted=False, reason="the champion has no AUC on this test part")
    better = new_auc > old_auc
    sign = ">" if better else "<="
    return Decision(promoted=better, reason=f"test AUC {new_auc:.4f} {sign} {old_auc:.4f}")
