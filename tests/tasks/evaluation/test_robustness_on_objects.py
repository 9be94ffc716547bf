"""Videos on object storage after a perturbation: fetched, changed and predicted like files."""

from dataclasses import asdict
from pathlib import Path

import pytest

from reelcheck.config import RunSettings
from reelcheck.perturbations import Perturbation
from reelcheck.status import Status
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.object_store.objects import ObjectFolder
from storage.outputs import EvaluationLayout
from storage.schemas import VIDEOS
from tasks.checkpoints.runtimes import open_runtime
from tasks.evaluation.robustness import load_or_predict_perturbed
from tasks.intake.discover import find_files, identify


@pytest.mark.usefixtures("face_model")
@pytest.mark.parametrize("perturbation", [Perturbation("blur", 0.7), Perturbation("remux")])
def test_perturbed_objects_get_a_status_of_their_own(
    s3_bucket: str,
    face_video: Path,
    random_model: Path,
    tmp_path: Path,
    perturbation: Perturbation,
) -> None:
    bucket = ObjectFolder(s3_bucket)
    bucket.put("in/face.mp4", face_video)
    bucket.write("in/gone.mp4", b"soon")
    known = {
        str(file.video_id): {
            **dict.fromkeys(VIDEOS.names),
            **asdict(file),
            "status": "ok",
            "component": file.path,
            "label": 0,
        }
        for file in identify(find_files(f"{s3_bucket}/in"), ())
    }
    bucket.remove(["in/gone.mp4"])
    model = ModelLayout(random_model)
    rows = load_or_predict_perturbed(
        perturbation,
        known,
        read_card(model),
        open_runtime(model),
        EvaluationLayout(tmp_path),
        run=RunSettings(num_workers=1),
        key={},
    )
    assert {row["path"]: row["status"] for row in rows} == {
        "face.mp4": Status.OK,
        "gone.mp4": Status.UNREADABLE,
    }
