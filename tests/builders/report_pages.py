"""Rows of a result table, the report made of them, and what another reader of HTML finds there."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.metrics.verdict import decide_verdict
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.train_config import DetectorSettings, TrainSettings
from tasks.scoring.report import render_report

CALIBRATION = Calibration(temperature=1.3, threshold=0.43, real_below=0.3, fake_from=0.61)
HOSTILE = (
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<!--<script>",
    "\"'`><b onmouseover=alert(1)>",
    "]]>&lt;&amp;\\u003c",
    "{{ 7 * 7 }}{% raw %}",
    "https://example.org/a.js",
    "\u202egpj.exe\u2066\u200f",
    "line\u2028break\r\n\ttab\x00\x1b[31m",
    "x" * 4000,
)


class Page(HTMLParser):
    """What another reader of HTML makes of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: dict[str, str] = {}
        """Text of the script elements, by id; the one that runs has none: ``""``."""
        self.style = ""
        self.rows: list[dict[str, Any]] = []
        """Of the table: ``n``, texts ``cells`` and the sorting ``keys`` by column class."""
        self._cell: str | None = None
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        self._inside = tag
        if tag == "tbody" and "data-n" in attributes:
            self.rows.append({"n": int(attributes["data-n"]), "cells": {}, "keys": {}})
        elif tag == "td" and "class" in attributes and self.rows:
            self._cell = attributes["class"].split()[-1]
            self.rows[-1]["cells"].setdefault(self._cell, "")
            self.rows[-1]["keys"].setdefault(self._cell, attributes.get("data-v"))
        elif tag == "script":
            self.scripts[attributes.get("id", "")] = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        if tag == "td":
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[list(self.scripts)[-1]] += data
        elif self._inside == "style":
            self.style += data
        if self._cell:
            self.rows[-1]["cells"][self._cell] += data

    def videos(self) -> dict[int, Any]:
        """The data of the page by number; refuses what a browser's JSON would."""

        return {  # parse_constant: of NaN and Infinity
            int(name.removeprefix("video-")): json.loads(text, parse_constant=pytest.fail)
            for name, text in self.scripts.items()
            if name.startswith("video-")
        }

    def skeleton(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.tags]


def card_of(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "weights_sha256": "0" * 64,
        "detector": DetectorSettings(),
        "training": TrainSettings(recipe="frames"),
        "preprocessing": PreprocessSettings(),
        "split_hash": "0" * 12,
        "calibration": CALIBRATION,
        "aggregation": "worst_track_of_mean_sequence_logits",
        "num_videos": {},
        "validation": {"num_videos": 40, "auc": 0.9},
        "versions": {},
    }
    return ModelCard(**(fields | changes))


def row_of(path: str = "a/b.mp4", *, score: float | None = None, **changes: Any) -> dict[str, Any]:
    """A row of the table; with a score it is a judged one, with two frames of a face."""
    row: dict[str, Any] = {"root": "/videos", "path": path, "status": "no_face", "reason": "none"}
    row |= {"model_id": "0123456789ab", "preprocessing_hash": "feedc0de"}
    row |= {name: [] for name in ("quality_flags", "tracks", "segments", "frames")}
    if score is None:
        return row | changes
    judged = {"track_id": 3, "score": score, "start_seconds": 0.5, "end_seconds": 7.25}
    frame = {"track_id": 3, "weight": 0.5, "is_evidence": True}
    row |= {"status": "ok", "reason": None, "score": score, "logit": 0.25}
    row |= {"verdict": decide_verdict(score, CALIBRATION), "duration_seconds": 8.0}
    row |= CALIBRATION.model_dump(exclude={"temperature", "threshold_rule"})
    row |= {"width": 640, "height": 360, "segments": [judged]}
    row["tracks"] = [{**judged, "box_xyxy": [10.0, 20.0, 90.0, 100.0]}]
    row["frames"] = [
        {**frame, "frame_index": 12, "pts_seconds": 0.5, "score": 0.75},
        {**frame, "frame_index": 175, "pts_seconds": 7.25, "score": 0.125},
    ]
    return row | changes


def html_of(rows: list[dict[str, Any]], folder: Path = Path(), **card: Any) -> str:
    return render_report(rows, card=card_of(**card), summary={}, evidence_dir=folder)


def page_of(rows: list[dict[str, Any]], folder: Path = Path(), **card: Any) -> Page:
    return Page(html_of(rows, folder, **card))


def write_evidence(path: Path, num_faces: int) -> bytes:
    path.parent.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.effect_noise((112 * num_faces, 224), 90).convert("RGB").save(buffer, format="JPEG")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()
