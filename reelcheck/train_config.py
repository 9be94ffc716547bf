"""Settings of the detector and of its training."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from reelcheck.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class TransformerSettings(Settings):
    """How the frames of a sequence are judged together."""

    feature_dim: Annotated[int, Field(ge=8)] = 512
    depth: Annotated[int, Field(ge=1)] = 4
    """Blocks."""
    num_heads: Annotated[int, Field(ge=1)] = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    pooling: Literal["attention", "mean"] = "attention"

    @model_validator(mode="after")
    def _heads_divide(self) -> "TransformerSettings":
        if self.feature_dim % (2 * self.num_heads):
            raise ValueError("feature_dim must be a multiple of 2 * num_heads")
        return self


class HeadLayer(Settings):
    """One hidden layer: linear, ReLU, dropout."""

    width: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class PaddingSettings(Settings):
    """How ``efficientnet_pytorch`` pads strided convolutions: by the size it was built for.

    timm pads by the size it is given. Only imported weights need this.
    """

    style: Literal["efficientnet-pytorch-0.6", "efficientnet-pytorch-0.7"]
    built_for_pixels: Annotated[int, Field(ge=32)]
    unpadded_stem: bool = False
    """The first convolution has no padding at all (DeepfakeBench)."""


class DetectorSettings(Settings):
    """Architecture of the detector, and the pixels that it takes."""

    backbone: str = "efficientnet_b3"
    """Any timm image model."""
    input_pixels: Annotated[int, Field(ge=32, le=1024)] | None = None
    """Crops are resized to this side; None: they are taken as they are stored."""
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of RGB in [0, 1]; default: ImageNet."""
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    transformer: TransformerSettings | None = TransformerSettings()
    """None: each frame is judged alone, and a sequence by the mean of its frames' logits."""
    head: tuple[HeadLayer, ...] = ()
    """Hidden layers of a detector without Transformer."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the last layer of a detector without Transformer."""
    padding: PaddingSettings | None = None

    @model_validator(mode="after")
    def _one_head(self) -> "DetectorSettings":
        if self.transformer is not None and (self.head or self.head_dropout):
            raise ValueError("head and head_dropout belong to transformer = none")
        return self


class AugmentSettings(Settings):
    """How likely each change is to be made to a training sequence, to all its frames alike.

    How strong the changes are: ``models/transforms.py``.
    """

    flip: Probability = 0.5
    rotation: Probability = 0.3
    """Up to 15 degrees."""
    brightness: Probability = 0.5
    contrast: Probability = 0.5
    noise: Probability = 0.1
    """Gaussian."""
    blur: Probability = 0.1
    """Gaussian."""
    crop: Probability = 0.0
    """A random part of each crop, enlarged."""
    jpeg: Probability = 0.0
    """Each frame compressed by JPEG."""
    codec: Probability = 0.0
    """The sequence compressed by H.264."""
    cutout: Probability = 0.0
    """A part of the face, found by its key points, hidden."""


class Phase(Settings):
    """A stretch of training with its own learning rate and its own frozen part."""

    max_epochs: Annotated[int, Field(ge=1)] = 30
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """None: 1e-6 from pretrained or local weights, 1e-3 from random ones."""
    backbone_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the backbone's layers that learn, counted from its output; 0: it is frozen."""


class TrainSettings(Settings):
    """One training run: everything that decides which weights come out."""

    recipe: str | None = None
    """Name of the recipe that these settings began as."""
    detector: DetectorSettings = DetectorSettings()
    pretrained: bool = False
    """Start the backbone from timm's ImageNet weights (needs the Hugging Face hub)."""
    init_from: Path | None = None
    """Start from a local file of weights (.safetensors, or .pth read with weights_only)."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = (Phase(),)
    """One after the other, each from the best epoch of the one before."""
    folds: Annotated[int, Field(ge=2, le=50)] | None = None
    """Cross-validate on train and val parts together; the model is the ensemble of all folds."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    """Learning rate over a phase; cosine falls to 0, one_cycle rises first."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of each backbone layer as a share of that of the layer after it."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Evaluate and keep the moving average of the weights."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Sequences per step, over all devices."""
    accumulate_batches: Annotated[int, Field(ge=1)] = 1
    """Batches per optimiser step."""
    passes_per_epoch: Annotated[int, Field(ge=1)] = 1
    """How often the train part is gone through before each validation; many for a small one, or
    validation takes most of the time."""
    max_steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Validate after this many batches instead of after the whole train part."""
    select_by: Literal["f1", "auc", "loss"] = "f1"
    """What the best epoch is best in, on validation."""
    patience_epochs: Annotated[int, Field(ge=1)] = 8
    """Early stopping: epochs without a better one."""
    frame_loss_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the per-frame loss beside the sequence loss."""
    min_frames: Annotated[int, Field(ge=1)] = 10
    """Training draws a length between this and the sequence's own."""
    max_frames: Annotated[int, Field(ge=1)] | None = None
    """Longest length drawn in training; None: the sequence's own."""
    augment: AugmentSettings = AugmentSettings()
    balance: Literal["repeat", "weigh", "none"] = "repeat"
    """What is done about unequal labels: sequences of the rarer one are drawn again, or count more
    in the loss."""
    twins: bool = True
    """Draw a fake beside the real video it was made from, with the same frames and changes."""
    self_blend: Probability = 0.0
    """Share of the fakes that are real sequences blended with themselves; 1: labelled fakes are
    never shown, neither in training nor in validation."""
    freeze_batch_norm: bool | None = None
    """Keep the backbone's running statistics; None: exactly when it starts from given weights."""
    threshold_by: Literal["f1", "precision", "false_alarms"] = "f1"
    """The threshold that is chosen on validation: with the best F1; the lowest of at least such a
    precision; the lowest with at most such a share of real videos called fake."""
    threshold_target: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The precision, or the share; None with f1."""
    max_decided_error: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Error among decided validation videos that the inconclusive band must reach."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainSettings":
        if self.pretrained and self.init_from is not None:
            raise ValueError("give pretrained or init_from, not both")
        if 0.9 < self.self_blend < 1:
            raise ValueError("self_blend must be at most 0.9, or 1 for no labelled fakes at all")
        if (self.threshold_target is None) != (self.threshold_by == "f1"):
            raise ValueError(
                "threshold_target belongs to threshold_by = precision or false_alarms; give both"
            )
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ValueError("max_frames must not be less than min_frames")
        return self

    @property
    def starts_from_weights(self) -> bool:
        """Whether the backbone starts from pretrained or local weights."""
        return self.pretrained or self.init_from is not None

    @property
    def effective_freeze_batch_norm(self) -> bool:
        """Whether batch norms are frozen, after the default for the chosen start is filled in."""
        if self.freeze_batch_norm is not None:
            return self.freeze_batch_norm
        return self.starts_from_weights

    def effective_learning_rate(self, phase: Phase) -> float:
        """The learning rate of a phase, after the default for the chosen start is filled in."""
        if phase.learning_rate is not None:
            return phase.learning_rate
        return 1e-6 if self.starts_from_weights else 1e-3


class EngineSettings(Settings):
    """How training uses the machine; which weights come out changes by rounding only.

    With several devices it also changes by batch norms that learn: each device's see only its part
    of a batch.
    """

    num_devices: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs of this machine, or processes where there is none; each takes its share of every
    batch."""
    num_nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines that train together. Each runs the same command with the same output folder, which
    all of them share, and finds MASTER_ADDR, MASTER_PORT and NODE_RANK in its environment."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 or else fp16 on a GPU, fp32 on a CPU."""
    num_loader_workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that prepare batches for each device; 0: the training process does."""
    gradient_checkpointing: bool = False
    """Less memory for more time: the backbone's activations are computed twice."""
    compile: bool = False
    """Compile the backbone with torch.compile."""

    @property
    def world_size(self) -> int:
        """Processes that share a batch, on all machines."""
        return self.num_devices * self.num_nodes
