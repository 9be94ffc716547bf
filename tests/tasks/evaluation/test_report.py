"""An evaluation for people: one page with all its pictures, and a model card that says the same."""

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from models.metrics.evaluation import Evaluation
from reelcheck.perturbations import Perturbation
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import EvaluationLayout
from storage.schemas import EVALUATED
from storage.tables import read_rows
from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.report import NUM_MISTAKES, write_evaluation_report
from tasks.evaluation.robustness import measure_robustness
from tasks.evaluation.sections import describe_auc

ModelOf = Callable[[Path, StoreLayout], ModelLayout]
HOSTILE = 'test/<script>alert("1")</script><img src=x onerror=alert(1)>.mp4'
NOTE = "SYNTHETIC: rendered faces <only>."
PICTURES = ("roc", "precision_recall", "confusion", "reliability", "risk_coverage", "scores")


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def require_self_contained(page: Page) -> None:
    for attributes in (attributes for _, attributes in page.tags):
        assert str(attributes.get("src") or "data:").startswith("data:")
        assert not {"href", "srcset", "onerror", "onclick", "onload"} & attributes.keys()
    assert not page.all("script") + page.all("link") + page.all("iframe")
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert "url(" not in page.text
    [policy] = [tag["content"] for tag in page.all("meta") if "http-equiv" in tag]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.fixture
def report(tmp_path: Path, tiny: Any, model_of: ModelOf) -> Callable[..., Any]:
    """Evaluates random weights on these test videos, with a page."""

    def make(tested: list[Any], **calibration: float) -> tuple[EvaluationLayout, Evaluation, Any]:
        learned = [clip for clip in tiny.three_parts() if clip.part != "test"]
        layout = tiny.write_store(tmp_path / "store", [*learned, *tested])
        model = model_of(tmp_path / "model", layout)
        card = read_card(model)
        moved = card.calibration.model_copy(update=calibration)
        band = {
            "real_below": min(moved.real_below, moved.threshold),
            "fake_from": max(moved.fake_from, moved.threshold),
        }
        changes = {
            "notes": (NOTE,),
            "calibration": moved.model_copy(update=band),
            "num_videos": {"train": {"real": 4, "fake": 4}},
        }
        card = card.model_copy(update=changes)
        save_checkpoint(model, model.weights_path.read_bytes(), card)
        out = tmp_path / "out"
        found = evaluate(layout, model, out=out, with_report=True)
        return EvaluationLayout(out), found, (layout, card)

    return make


def test_page_holds_everything_itself_and_shows_every_picture(
    report: Callable[..., Any], tiny: Any
) -> None:
    tested = [*tiny.clips(8, part="test"), tiny.Clip(path=HOSTILE, label=1, part="test")]
    # All are called fake: each real video is a mistake.
    output, found, (layout, card) = report(tested, threshold=0.0)
    page = Page(output.report_path)
    require_self_contained(page)
    mistakes = 8
    assert f"{mistakes} videos are on the wrong side" in page.text
    assert len(page.all("img")) == len(PICTURES) + 1 + mistakes
    assert all(output.plot_path(name).exists() for name in (*PICTURES, "slices"))
    assert f"Model {card.model_id} on the test split" in page.words
    assert NOTE in page.words
    assert f"{found['metrics']['auc']:.3f}" in page.words
    # With perturbations there is one more picture, and their rows.
    rows = read_rows(output.videos_path, EVALUATED)
    names = (Perturbation("remux"), Perturbation("scale", 4), Perturbation("scale", 2))
    found["robustness"] = [measure_robustness(p, rows, rows, threshold=0.5) for p in names]
    write_evaluation_report(output, layout, card, found, rows)
    page = Page(output.report_path)
    require_self_contained(page)
    assert len(page.all("img")) == len(PICTURES) + 2 + mistakes
    assert {"remux", "scale 1/4", "scale 1/2"} <= set(page.words)


def test_hostile_file_name_is_shown_as_it_is_and_nothing_more(
    report: Callable[..., Any], tiny: Any
) -> None:
    tested = [*tiny.clips(2, part="test"), tiny.Clip(path=HOSTILE, label=1, part="test")]
    # Nothing is called fake: each fake is a mistake.
    output, _, _ = report(tested, threshold=1.0)
    page = Page(output.report_path)
    require_self_contained(page)
    assert "<script" not in page.text
    assert "<img src=x" not in page.text
    captions = [word for word in page.words if word.startswith(HOSTILE)]
    assert len(captions) == 1
    assert any(str(image["alt"]).startswith(HOSTILE) for image in page.all("img"))


def test_hardest_mistakes_are_shown_the_farthest_from_the_threshold_first(
    report: Callable[..., Any], tiny: Any
) -> None:
    output, _, _ = report(tiny.clips(NUM_MISTAKES + 2, part="test"), threshold=0.0)
    rows = {row["path"]: row for row in read_rows(output.videos_path, EVALUATED)}
    captions = [word for word in Page(output.report_path).words if word.startswith("test/")]
    shown = [caption.split(": ")[0] for caption in captions]
    wrong = [row for row in rows.values() if row["label"] == 0]
    wrong.sort(key=lambda row: -row["score"])
    assert shown == [row["path"] for row in wrong[:NUM_MISTAKES]]
    assert len(wrong) == NUM_MISTAKES + 2
    faces = {output.faces_path(rows[path]["video_id"]) for path in shown}
    assert set(output.faces_path("0" * 64).parent.iterdir()) == faces
    for path in faces:
        assert path.read_bytes().startswith(b"\xff\xd8")


def test_model_card_says_what_the_page_says(report: Callable[..., Any], tiny: Any) -> None:
    output, found, (_, card) = report(tiny.clips(4, part="test", generator="swap|er"))
    text = output.model_card_path.read_text(encoding="utf-8")
    assert text.startswith(f"# Model card: {card.model_id}\n\n> **{NOTE}**\n")
    assert f"| AUC | {found['metrics']['auc']:.3f} |" in text
    assert "| train | 4 | 4 |" in text
    assert card.preprocessing_hash in text
    assert f"{card.calibration.temperature:.3f}" in text
    # A bar in a name breaks no table.
    assert "| swap\\|er | 4 | 4 |" in text
    words = Page(output.report_path).words
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert len(titles) > 5
    assert set(titles) - {"Trained on"} <= set(words)
    figures = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| AUC")]
    assert figures
    assert set(figures) <= set(words)


@pytest.mark.parametrize("label", [0, 1])
def test_part_with_one_label_and_without_mistakes_has_a_page(
    report: Callable[..., Any], tiny: Any, label: int
) -> None:
    tested = [clip for clip in tiny.clips(3, part="test") if clip.label == label]
    threshold = 0.0 if label else 1.0
    output, found, _ = report(tested, threshold=threshold)
    page = Page(output.report_path)
    require_self_contained(page)
    assert found["metrics"]["auc"] is None
    assert "undefined" in page.words
    assert "0 videos are on the wrong side" in page.text
    assert len(page.all("img")) == len(PICTURES) + 1


def test_part_without_a_scored_video_has_a_page(report: Callable[..., Any], tiny: Any) -> None:
    # Time stamps that are no numbers make logits that are none.
    tested = [replace(clip, first_second=float("nan")) for clip in tiny.clips(2, part="test")]
    output, found, _ = report(tested)
    assert (found["num_scored"], found["coverage"]) == (0, 0.0)
    page = Page(output.report_path)
    require_self_contained(page)
    assert "no video was scored" in page.words
    assert "0 of 4 videos have a score" in page.text
    assert len(page.all("img")) == len(PICTURES) + 1


@pytest.mark.parametrize(
    ("interval", "changes", "words"),
    [
        ([0.553, 0.861], {}, "(95 % interval 0.55 to 0.86) on 18 videos of people the detector"),
        ([0.553, 0.861], {}, "fake got the higher score in 72 (by chance: 50); this says nothing"),
        ([0.553, 0.861], {"num_groups": 9}, "0.86, too narrow for only 9 unconnected groups)"),
        ([0.41, 0.861], {}, "(by chance: 50, which is not ruled out)"),
        ([0.05, 0.4], {}, "(by chance: 50, so the detector is worse than chance)"),
        (None, {"num_groups": 1}, "(too few people for an interval)"),
        (None, {"num_groups": 1}, "(by chance: 50, which is not ruled out)"),
        ([0.553, 0.861], {"named": False}, "though perhaps their people, whom the labels do not"),
    ],
)
def test_sentence_on_the_auc_claims_no_more_than_is_known(
    interval: list[float] | None, changes: dict[str, Any], words: str
) -> None:
    found = {
        "num_scored": 18,
        "num_groups": changes.get("num_groups", 20),
        "metrics": {"auc": 0.721},
        "intervals": {} if interval is None else {"auc": interval},
        "undefined": {},
    }
    sentence = describe_auc(found, are_people_named=changes.get("named", True))
    assert sentence.startswith("AUC 0.72 (")
    assert words in sentence


def test_sentence_on_the_auc_of_one_label_says_why_there_is_none(
    report: Callable[..., Any], tiny: Any
) -> None:
    _, found, _ = report([tiny.Clip(path=f"test/{n}.mp4", label=1, part="test") for n in range(3)])
    assert describe_auc(found, are_people_named=True) == (
        "No AUC can be given on 3 videos of the test part: every scored video is fake; it takes a "
        "real one to compare with."
    )
