"""Settings of the detector and of its training."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from reelcheck.settings import Settings
from reelcheck.weights.formats import PaddingStyle

Probability = Annotated[float, Field(ge=0, le=1)]


class TransformerSettings(Settings):
    """The Transformer, which classifies the frames of a sequence together."""

    feature_dim: Annotated[int, Field(ge=8)] = 512
    """Number of features per frame."""
    depth: Annotated[int, Field(ge=1)] = 4
    """Number of Transformer blocks."""
    num_heads: Annotated[int, Field(ge=1)] = 8
    """Number of attention heads per block."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout probability in the Transformer, 0 to 1."""
    pooling: Literal["attention", "mean"] = "attention"
    """How the features of all frames become one: by learned attention weights, or by their mean."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "TransformerSettings":
        if self.feature_dim % (2 * self.num_heads):
            raise ValueError("feature_dim must be a multiple of 2 * num_heads")
        return self


class HeadLayer(Settings):
    """One hidden layer: linear, ReLU, dropout."""

    width: Annotated[int, Field(ge=1)]
    """Number of features that the layer gives."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability after the layer, 0 to 1."""


class PaddingSettings(Settings):
    """How ``efficientnet_pytorch`` pads strided convolutions: for the size it was built for.

    timm pads for the size of its input instead. Only imported weights need this.
    """

    style: PaddingStyle
    """Version of ``efficientnet_pytorch`` whose padding is used."""
    built_for_pixels: Annotated[int, Field(ge=32)]
    """Side of the pictures, in pixels, that the network was built for."""
    unpadded_stem: bool = False
    """Leave the first convolution without padding, as DeepfakeBench does."""


class DetectorSettings(Settings):
    """Architecture of the detector, and its input."""

    backbone: str = "efficientnet_b3"
    """Name of the image model in timm that gives the features of each frame."""
    feature_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Layers inside the backbone whose features are taken, side by side, in rising order, counted
    from 0 as in timm, and standardised before the head; empty: the last layer's."""
    input_pixels: Annotated[int, Field(ge=32, le=1024)] | None = None
    """Side in pixels to which crops are resized; None: crops keep their stored size."""
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of red, green and blue (0 to 1), which is subtracted; the default is ImageNet's."""
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    """Standard deviation of red, green and blue, which divides; the default is ImageNet's."""
    transformer: TransformerSettings | None = TransformerSettings()
    """The Transformer; None: each frame is classified alone, and the logit of a sequence is the
    mean of its frames' logits."""
    head: tuple[HeadLayer, ...] = ()
    """Hidden layers of the head of a detector without Transformer."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability (0 to 1) before the last layer of a detector without Transformer."""
    padding: PaddingSettings | None = None
    """Padding of imported weights; None: timm's padding."""

    @model_validator(mode="after")
    def _one_head(self) -> "DetectorSettings":
        if self.transformer is not None and (self.head or self.head_dropout):
            raise ValueError("head and head_dropout belong to transformer = none")
        return self


class AugmentSettings(Settings):
    """Probability of each random change of a training sequence; all its frames change alike.

    ``models/data/transforms.py`` says how strong the changes are.
    """

    flip: Probability = 0.5
    """Probability of mirroring left and right."""
    rotation: Probability = 0.3
    """Probability of a rotation by up to 15 degrees."""
    brightness: Probability = 0.5
    """Probability of another brightness."""
    contrast: Probability = 0.5
    """Probability of another contrast."""
    noise: Probability = 0.1
    """Probability of Gaussian noise."""
    blur: Probability = 0.1
    """Probability of a Gaussian blur."""
    crop: Probability = 0.0
    """Probability of enlarging a random region of each crop."""
    jpeg: Probability = 0.0
    """Probability of compressing each frame as JPEG."""
    codec: Probability = 0.0
    """Probability of compressing the sequence as H.264."""
    cutout: Probability = 0.0
    """Probability of hiding a region of the face, which the key points locate."""


class Phase(Settings):
    """One phase of training, with its own learning rate and its own frozen layers."""

    max_epochs: Annotated[int, Field(ge=1)] = 30
    """Largest number of epochs of the phase."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Highest learning rate; None: 1e-6 with pretrained or local weights, 1e-3 with random ones."""
    backbone_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the backbone's layers that learn (0 to 1), counted from its output; 0: none
    learns."""


class TrainSettings(Settings):
    """Everything that decides the weights of a training run."""

    recipe: str | None = None
    """Name of the recipe that these settings are based on."""
    detector: DetectorSettings = DetectorSettings()
    """Architecture of the detector."""
    pretrained: bool = False
    """Start the backbone from published weights: those in the user's cache, those of the catalogue,
    those of timm on the Hugging Face hub."""
    init_from: Path | None = None
    """Start from a file of weights (.safetensors, or .pth of plain tensors), a folder that holds
    some, or a name of the catalogue."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = (Phase(),)
    """Phases in their order; each starts from the best epoch of the previous phase."""
    folds: Annotated[int, Field(ge=2, le=50)] | None = None
    """Number of folds of a cross-validation on train and val together, whose models form an
    ensemble; None: no cross-validation."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    """Algorithm that updates the weights."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    """Course of the learning rate over a phase; cosine falls to 0, one_cycle rises first."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Weight decay of the optimiser."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient, which is scaled down to it; None: no limit."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of each backbone layer, as a share of the next layer's; None: all the same."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is evaluated and kept; None: no
    average."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Number of sequences per step, over all devices."""
    accumulate_batches: Annotated[int, Field(ge=1)] = 1
    """Number of batches whose gradients are added up for one optimiser step."""
    passes_per_epoch: Annotated[int, Field(ge=1)] = 1
    """Passes over the training videos per epoch; with few videos, several passes keep validation
    from taking most of the time."""
    max_steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Largest number of batches in an epoch, which ends with validation; None: all training
    videos."""
    select_by: Literal["f1", "auc", "loss"] = "f1"
    """Metric on validation that chooses the best epoch."""
    patience_epochs: Annotated[int, Field(ge=1)] = 8
    """Early stopping: number of epochs without improvement after which a phase ends."""
    frame_loss_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the loss of single frames, beside the loss of the sequence."""
    min_frames: Annotated[int, Field(ge=1)] = 10
    """Smallest number of frames that training draws from a sequence at random."""
    max_frames: Annotated[int, Field(ge=1)] | None = None
    """Largest number of frames that training draws from a sequence; None: all its frames."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes of training sequences."""
    balance: Literal["repeat", "weigh", "none"] = "repeat"
    """How unequal labels are balanced. repeat: sequences of the rarer label are drawn again; weigh:
    they count more in the loss; none: not at all."""
    twins: bool = True
    """Draw a fake next to the real video it was made from, with the same frames and changes."""
    self_blend: Probability = 0.0
    """Share (0 to 1) of the fakes that are real sequences blended with themselves; 1: labelled
    fakes are used neither in training nor in validation."""
    freeze_batch_norm: bool | None = None
    """Keep the running statistics of the backbone's batch norms; None: keep them if the backbone
    starts from pretrained or local weights."""
    threshold_by: Literal["f1", "precision", "false_alarms"] = "f1"
    """How the threshold is chosen on validation. f1: best F1; precision: lowest threshold with at
    least the target precision; false_alarms: lowest threshold with at most the target share of
    real videos that are called fake."""
    threshold_target: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Target precision or target share of false alarms, 0 to 1; None with f1."""
    max_decided_error: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Largest share of wrong verdicts (0 to 1) among the validation videos outside the inconclusive
    band."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Number that the random choices depend on."""

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
    def trains_backbone(self) -> bool:
        """Whether any phase lets a layer of the backbone learn."""
        return any(phase.backbone_share for phase in self.phases)

    @property
    def effective_freeze_batch_norm(self) -> bool:
        """Whether batch norms are frozen, with the default for these starting weights."""
        if self.freeze_batch_norm is not None:
            return self.freeze_batch_norm
        return self.starts_from_weights

    def effective_learning_rate(self, phase: Phase) -> float:
        """Learning rate of a phase, with the default for these starting weights."""
        if phase.learning_rate is not None:
            return phase.learning_rate
        return 1e-6 if self.starts_from_weights else 1e-3


class EngineSettings(Settings):
    """How training uses the machine; the weights change by rounding only.

    With several devices, batch norms that learn change the weights too: each device sees only its
    share of a batch.
    """

    num_devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of GPUs of this machine, or of processes without a GPU; each takes its share of every
    batch."""
    num_nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of machines that train together. Each runs the same command with the same output
    folder, which all share, and reads MASTER_ADDR, MASTER_PORT and NODE_RANK from the
    environment."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the computation. auto: bf16 or otherwise fp16 on a GPU, fp32 on a CPU."""
    num_loader_workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Number of processes that prepare batches for each device; 0: the training process does it."""
    gradient_checkpointing: bool = False
    """Compute the backbone's activations twice, which takes less memory and more time."""
    compile: bool = False
    """Compile the backbone with torch.compile."""

    @property
    def world_size(self) -> int:
        """Processes that share a batch, on all machines."""
        return self.num_devices * self.num_nodes
