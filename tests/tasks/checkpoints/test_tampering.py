"""One changed value or bit in a model: refused in one line, or it changes no answer."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.interop.export import ExportedParts
from reelcheck.card import Calibration
from reelcheck.errors import MismatchError, ReelcheckError, StoreError
from storage.checked.settings import read_preprocessing
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import EvaluationLayout, ScoreLayout
from tasks.checkpoints import export, runtimes
from tasks.checkpoints.exported import locate_exported, read_exported
from tasks.checkpoints.runtimes import open_runtime

Place = tuple[str | int, ...]
FEW = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", autouse=True)
def _without_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "_has_gpu", lambda: False)
        yield


@pytest.fixture
def model(random_model: Path, tmp_path: Path) -> ModelLayout:
    return ModelLayout(shutil.copytree(random_model, tmp_path / "model"))


@pytest.fixture
def exports(model: ModelLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's ONNX files; another export gives them at once."""
    card = read_card(model)
    theirs = locate_exported(card)
    made = read_exported(theirs, card)
    if made is None:  # those of other tests push it out
        made = export.ensure_onnx_files(model)
    assert made.record.max_difference is not None
    parts = ExportedParts(made.encoder, made.head, made.record.max_difference)
    monkeypatch.setattr(export, "export_parts", lambda *_, **__: parts)
    monkeypatch.setenv("REELCHECK_EXPORTS", str(tmp_path / "exports"))
    ours = locate_exported(card).path
    shutil.copytree(theirs.path, ours)
    return ours


def list_places(value: Any, place: Place = ()) -> list[Place]:
    """Every value in a card but the outermost, nested ones too."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [place] if place else []
    return found + [inner for key, each in items for inner in list_places(each, (*place, key))]


OTHERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
    st.sampled_from(["mean_sequence_logit", "efficientnet_b0", "../../x", [], {}]),
)


@st.composite
def changes(draw: st.DrawFn, card: dict[str, Any]) -> dict[str, Any]:
    """A card with one value changed, a little or altogether, or left out."""
    *outer, last = draw(st.sampled_from(list_places(card)))
    changed = copy.deepcopy(card)
    holder: Any = changed
    for key in outer:
        holder = holder[key]
    kind = draw(st.sampled_from(["other", "near", "gone"]))
    if kind == "gone":
        del holder[last]
    elif kind == "near" and isinstance(holder[last], int | float):
        holder[last] = draw(
            st.sampled_from([-holder[last], holder[last] + 1, np.nextafter(holder[last], 9).item()])
        )
    else:
        holder[last] = draw(OTHERS)
    return changed


@settings(FEW, max_examples=200)
@given(data=st.data())
def test_card_with_one_value_changed_is_refused(model: ModelLayout, data: st.DataObject) -> None:
    """Every value: those that decide scores, and those that people and the gate read."""
    right, before = model.card_path.read_text(encoding="utf-8"), read_card(model)
    changed = data.draw(changes(json.loads(right)))
    model.card_path.write_text(json.dumps(changed), encoding="utf-8")
    try:
        after = read_card(model)
    except ReelcheckError:
        with pytest.raises(ReelcheckError) as caught:
            open_runtime(model)
        assert "\n" not in str(caught.value)
    else:
        # Only another way to write the same, such as 1.0 for 1, is taken.
        assert after == before
    model.card_path.write_text(right, encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"detector": {"head_dropout": 0.0, "pixel_mean": [0.5, 0.5, 0.5]}},
        {"preprocessing": {"margin": 2.0}},
        {"preprocessing": {"num_frames": 11}},
        {"calibration": {"temperature": 2.0000000000000004}},
        {"calibration": {"threshold": 0.3}},
        {"calibration": {"real_below": 0.01, "threshold": 0.01, "fake_from": 0.01}},
        {"aggregation": "worst_sequence_logit"},
        {"num_members": 2},
        {"shares_backbone": True},
        {"weights_sha256": "0" * 64},
        {"split_hash": None},
        {"notes": ["measured on a million videos"]},
    ],
    ids=str,
)
def test_whoever_computes_the_ids_anew_makes_another_model(
    model: ModelLayout, tiny: Any, change: dict[str, Any]
) -> None:
    before = read_card(model)
    card = json.loads(model.card_path.read_text(encoding="utf-8"))
    for name, value in change.items():
        card[name] = card[name] | value if isinstance(value, dict) else value
    model.card_path.write_text(json.dumps(tiny.seal(card)), encoding="utf-8")
    after = read_card(model)
    assert after.model_id != before.model_id
    assert (after.preprocessing_hash == before.preprocessing_hash) == (
        "preprocessing" not in change
    )


@pytest.mark.parametrize(
    "numbers",
    [
        *((value, 0.5, 0.4, 0.6) for value in (-1.0, 0.0, 1e-300, 0.04, 21.0, float("inf"))),
        *((1.0, *bounds) for bounds in ((0.01, 0.4, 0.6), (0.7, 0.4, 0.6), (0.5, 0.6, 0.4))),
        *((1.0, *bounds) for bounds in ((-0.1, -0.1, 0.6), (5.0, 0.5, 5.0), (0.5, 0.5, 1.1))),
        (float("nan"), 0.5, 0.4, 0.6),
        (1.0, float("nan"), 0.4, 0.6),
    ],
)
def test_calibration_that_training_cannot_give_is_none(numbers: tuple[float, ...]) -> None:
    names = ("temperature", "threshold", "real_below", "fake_from")
    with pytest.raises(ValueError, match="Calibration"):
        Calibration.model_validate(dict(zip(names, numbers, strict=True)))


@FEW
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_flipped_bit_of_the_weights_is_refused(
    model: ModelLayout, exports: Path, engine: Any, where: float, bit: int
) -> None:
    right = model.weights_path.read_bytes()
    flip(model.weights_path, where, bit)
    with pytest.raises(MismatchError, match="not the weights") as caught:
        open_runtime(model, engine=engine)
    assert "\n" not in str(caught.value)
    model.weights_path.write_bytes(right)


@FEW
@given(
    name=st.sampled_from(["encoder.onnx", "head.onnx", "onnx.json"]),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_flipped_bit_of_the_onnx_files_changes_no_answer(
    model: ModelLayout, exports: Path, name: str, where: float, bit: int
) -> None:
    card = read_card(model)
    right = read_exported(locate_exported(card), card)
    assert right is not None
    flip(exports / name, where, bit)
    # What an engine is given.
    loaded = runtimes._load_exported(model, card, None)
    assert not isinstance(loaded, str)
    assert (loaded.encoder, loaded.head) == (right.encoder, right.head)


def flip(path: Path, where: float, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model_id", "preprocessing_hash", "split_hash"])
@pytest.mark.parametrize("value", ["../../x", "0" * 11 + "/", "x" * 32, ""])
def test_hash_that_leads_out_of_a_folder_is_refused(
    model: ModelLayout, name: str, value: str
) -> None:
    card = json.loads(model.card_path.read_text(encoding="utf-8"))
    model.card_path.write_text(json.dumps(card | {name: value}), encoding="utf-8")
    for use in (read_card, open_runtime):
        with pytest.raises(ReelcheckError) as caught:
            use(model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "0" * 63, "0" * 63 + "\n", "A" * 64, ""])
@pytest.mark.parametrize(
    "locate",
    [
        lambda name: ScoreLayout(Path("out")).result_path("key", name),
        lambda name: ScoreLayout(Path("out")).evidence_path("key", name),
        lambda name: EvaluationLayout(Path("out")).faces_path(name),
    ],
    ids=["result", "evidence", "faces"],
)
def test_name_of_a_content_in_a_path_is_a_hash(locate: Callable[[str], Path], name: str) -> None:
    assert locate("0" * 64).name.startswith("0" * 64)
    with pytest.raises(StoreError, match="no video id"):
        locate(name)


def test_settings_that_do_not_name_the_store_are_refused(tmp_path: Path, tiny: Any) -> None:
    layout: StoreLayout = tiny.write_store(tmp_path, tiny.clips(1))
    assert read_preprocessing(layout) == tiny.preprocessing
    other = tiny.preprocessing.model_copy(update={"margin": 2.0})
    layout.settings_path.write_text(other.model_dump_json(), encoding="utf-8")
    with pytest.raises(StoreError, match="not those that the folder is named after"):
        read_preprocessing(layout)
