"""Models that strangers upload: what is taken, and how each hostile ZIP is refused."""

import io
import json
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reelcheck.errors import MismatchError, ReelcheckError, StoreError, WeightsError
from storage.layout import ModelLayout
from tasks.checkpoints.exported import locate_exported, read_exported
from tasks.checkpoints.uploads import prepare_model, take_model

MAX_BYTES = 10_000_000
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Files:
    layout = tiny.save_model(tmp_path_factory.mktemp("model") / "model")
    return {path.name: path.read_bytes() for path in (layout.card_path, layout.weights_path)}


def zipped(files: Mapping[Any, bytes], *, compress: bool = True) -> io.BytesIO:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    buffer.seek(0)
    return buffer


def with_card(files: Files, change: Callable[[dict[str, Any]], object]) -> Files:
    card = json.loads(files["card.json"])
    change(card)
    return {**files, "card.json": json.dumps(card).encode()}


def with_sealed_card(files: Files, change: Callable[[dict[str, Any]], object], tiny: Any) -> Files:
    """The card as it had been if it had said this from the beginning."""
    card = json.loads(files["card.json"])
    change(card)
    return {**files, "card.json": json.dumps(tiny.seal(card)).encode()}


def refusal(files: Mapping[Any, bytes] | io.BytesIO, folder: Path) -> ReelcheckError:
    """The error; and nothing but the two files was ever written, in the folder only."""
    archive = files if isinstance(files, io.BytesIO) else zipped(files)
    with pytest.raises(ReelcheckError) as caught:
        take_model(archive, folder / "in" / "model", max_bytes=MAX_BYTES)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left <= {"in/model/card.json"}
    return caught.value


@pytest.mark.parametrize("top", ["", "model/", "a b/ü/"])
def test_checkpoint_folder_is_taken_as_it_is(checkpoint: Files, tmp_path: Path, top: str) -> None:
    archive = zipped({f"{top}{name}": content for name, content in checkpoint.items()})
    card = take_model(archive, tmp_path / "model", max_bytes=MAX_BYTES)
    layout = ModelLayout(tmp_path / "model")
    assert layout.weights_path.read_bytes() == checkpoint["model.safetensors"]
    assert card.model_id == json.loads(checkpoint["card.json"])["model_id"]


def test_what_training_leaves_beside_a_model_is_left_out(checkpoint: Files, tmp_path: Path) -> None:
    beside = {"m/log.csv": b"", "m/report.md": b"", "m/plots/roc.png": b"png"}
    ours = {f"m/{name}": content for name, content in checkpoint.items()}
    take_model(zipped(ours | beside), tmp_path / "model", max_bytes=MAX_BYTES)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"card.json", "model.safetensors"}


def test_what_several_machines_and_a_working_copy_leave_is_left_out(
    checkpoint: Files, tmp_path: Path
) -> None:
    beside = {
        "m/.objects.json": b"{}",
        "m/unfinished/run.json": b"{}",
        "m/unfinished/phase1.json": b"{}",
        "m/unfinished/phase1.safetensors": b"weights",
        "m/unfinished/phase2/last.ckpt": b"evil",
        "m/folds/0/unfinished/phase1/best.ckpt": b"evil",
    }
    ours = {f"m/{name}": content for name, content in checkpoint.items()}
    take_model(zipped(ours | beside), tmp_path / "model", max_bytes=MAX_BYTES)
    left = {p.name for p in (tmp_path / "model").rglob("*")}
    assert left == {"card.json", "model.safetensors"}


@pytest.mark.parametrize(
    "name", ["../evil", "m/../../evil", "/etc/evil", "C:/evil", "..\\evil", "a\\..\\..\\evil"]
)
def test_name_that_leads_out_is_refused(checkpoint: Files, tmp_path: Path, name: str) -> None:
    error = refusal({**checkpoint, name: b"x"}, tmp_path)
    assert isinstance(error, WeightsError)
    assert "leads out" in str(error)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_link_or_device_is_refused(checkpoint: Files, tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("model.safetensors")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    error = refusal({"card.json": checkpoint["card.json"], entry: b"/etc/passwd"}, tmp_path)
    assert "link or device" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        *("setup.py", "model.pkl", "notes.txt", "sub/a.txt", "encoder.onnx", "onnx.json"),
        *("plots/x.pt", "plots/x.ckpt", "folds/0/weights.bin", "unfinished/x.py"),
    ],
)
def test_anything_else_inside_is_refused_by_name(
    checkpoint: Files, tmp_path: Path, name: str
) -> None:
    assert repr(name) in str(refusal({**checkpoint, name: b"x"}, tmp_path))


@pytest.mark.parametrize("missing", ["card.json", "model.safetensors"])
def test_incomplete_folder_is_refused(checkpoint: Files, tmp_path: Path, missing: str) -> None:
    rest = {name: content for name, content in checkpoint.items() if name != missing}
    assert f"no {missing}" in str(refusal(rest, tmp_path))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_pickle_named_safetensors_is_refused_unread(checkpoint: Files, tmp_path: Path) -> None:
    pickled = pickle.dumps(Evil())
    assert "pickle" in str(refusal({**checkpoint, "model.safetensors": pickled}, tmp_path / "a"))
    saved = zipped({"archive/data.pkl": pickled}).getvalue()
    assert "pickle" in str(refusal({**checkpoint, "model.safetensors": saved}, tmp_path / "b"))


def test_bomb_is_refused_before_it_unpacks(checkpoint: Files, tmp_path: Path) -> None:
    bomb = zipped({**checkpoint, "model.safetensors": bytes(MAX_BYTES + 1)})
    assert len(bomb.getvalue()) < MAX_BYTES / 100
    assert "is the most" in str(refusal(bomb, tmp_path))


def test_archive_that_understates_its_size_is_refused(checkpoint: Files, tmp_path: Path) -> None:
    content = zipped({**checkpoint, "model.safetensors": bytes(MAX_BYTES + 1)}).getvalue()
    claimed = struct.pack("<I", MAX_BYTES + 1)
    assert content.count(claimed) == 2
    error = refusal(io.BytesIO(content.replace(claimed, struct.pack("<I", 1000))), tmp_path)
    assert isinstance(error, WeightsError)


def test_tensor_that_claims_a_gigabyte_is_refused(checkpoint: Files, tmp_path: Path) -> None:
    claim = {"w": {"dtype": "F32", "shape": [250_000_000], "data_offsets": [0, 1_000_000_000]}}
    header = json.dumps(claim).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(64)
    assert "not safetensors" in str(refusal({**checkpoint, "model.safetensors": weights}, tmp_path))


@pytest.mark.parametrize("weights", [b"", b"abc", struct.pack("<Q", 2**60) + b"{}", bytes(64)])
def test_weights_that_are_cut_short_are_refused(
    checkpoint: Files, tmp_path: Path, weights: bytes
) -> None:
    assert "not safetensors" in str(refusal({**checkpoint, "model.safetensors": weights}, tmp_path))


@pytest.mark.parametrize("content", [b"", b"no ZIP", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a ZIP" in str(refusal(io.BytesIO(content), tmp_path))


def test_damaged_zip_is_refused(checkpoint: Files, tmp_path: Path) -> None:
    content = bytearray(zipped(checkpoint, compress=False).getvalue())
    content[len(content) // 2] ^= 0xFF
    assert isinstance(refusal(io.BytesIO(bytes(content)), tmp_path), WeightsError)


def test_archive_of_very_many_files_is_refused(tmp_path: Path) -> None:
    assert "501 files" in str(refusal({f"plots/{n}.png": b"" for n in range(501)}, tmp_path))


def test_other_card_version_is_refused(checkpoint: Files, tmp_path: Path) -> None:
    older = with_card(checkpoint, lambda card: card.update(card_version=2))
    error = refusal(older, tmp_path)
    assert isinstance(error, StoreError)
    assert "version 2" in str(error)


@pytest.mark.parametrize("card", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_card_that_is_none_is_refused(checkpoint: Files, tmp_path: Path, card: bytes) -> None:
    assert isinstance(refusal({**checkpoint, "card.json": card}, tmp_path), StoreError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["preprocessing"].update(sampling="telepathy"), "not a model card"),
        (lambda c: c["preprocessing"].update(margin=1.7), "changed after the model was made"),
        (lambda c: c.update(model_id="0" * 32), "it says model_id = '0000"),
        (lambda c: c.update(calibration={"temperature": 1.0}), "not a model card of"),
        (lambda c: c["calibration"].update(temperature=-1.0), "temperature = -1.0"),
        (lambda c: c["calibration"].update(temperature=0.0), "temperature = 0.0"),
        (lambda c: c["calibration"].update(temperature=1e-300), "temperature = 1e-300"),
        (lambda c: c["calibration"].update(threshold=5.0), "threshold = 5.0"),
        (lambda c: c["calibration"].update(real_below=0.9, fake_from=0.1), "in this order"),
    ],
)
def test_card_that_was_changed_is_refused(
    checkpoint: Files, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    error = refusal(with_card(checkpoint, change), tmp_path)
    assert isinstance(error, StoreError | MismatchError)
    assert said in str(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["detector"].update(backbone="hf-hub:evil/model"), "no name of a timm model"),
        (lambda c: c["detector"]["transformer"].update(depth=10_000), "depth = 10,000"),
        (lambda c: c.update(num_members=50), "num_members = 50"),
        (lambda c: c.update(weights_sha256="0" * 64), "instead of 000000000000"),
    ],
)
def test_card_that_this_program_cannot_follow_is_refused(
    checkpoint: Files,
    tmp_path: Path,
    tiny: Any,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    error = refusal(with_sealed_card(checkpoint, change, tiny), tmp_path)
    assert isinstance(error, MismatchError)
    assert said in str(error)


def test_unknown_face_detector_is_refused(checkpoint: Files, tmp_path: Path, tiny: Any) -> None:
    files = with_sealed_card(
        checkpoint, lambda c: c["preprocessing"].update(face_model_sha256="0" * 64), tiny
    )
    assert "face detector 000000000000" in str(refusal(files, tmp_path))


@pytest.mark.slow
def test_preparing_makes_what_scores_without_torch(checkpoint: Files, tmp_path: Path) -> None:
    card = take_model(zipped(checkpoint), tmp_path / "model", max_bytes=MAX_BYTES)
    prepare_model(tmp_path / "model", tmp_path / "exports")
    made = locate_exported(card, tmp_path / "exports")
    assert read_exported(made, card) is not None


@pytest.mark.slow
def test_weights_of_another_network_are_refused_when_it_is_built(
    checkpoint: Files, tmp_path: Path, tiny: Any
) -> None:
    wider = with_sealed_card(
        checkpoint, lambda c: c["detector"]["transformer"].update(feature_dim=32), tiny
    )
    take_model(zipped(wider), tmp_path / "model", max_bytes=MAX_BYTES)
    with pytest.raises(WeightsError, match="not those of the network"):
        prepare_model(tmp_path / "model", tmp_path / "exports")
