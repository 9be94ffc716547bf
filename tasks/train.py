"""Manifest + split -> a checkpoint folder."""

import importlib.metadata
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import lightning
import numpy as np
from prefect import task

from models.aggregation import AGGREGATION, video_logit
from models.calibration import calibrated_score, fit_calibration
from models.dataset import CropDataset, EpochSampler
from models.detector import Detector
from models.inference import predict_logits
from models.metrics import video_metrics
from models.training import fit
from reelcheck.card import ModelCard
from reelcheck.config import PreprocessSettings, TrainSettings
from reelcheck.errors import MismatchError, StoreError, WeightsError
from storage.checkpoints import Weights, read_card, read_weights, save_checkpoint, weights_to_bytes
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT
from storage.tables import Row, read_metadata, read_rows, write_table
from tasks.split import count_splits
