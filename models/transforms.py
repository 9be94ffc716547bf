"""uint8 crops -> normalised tensor, and the training augmentation.

Everything is drawn once per sequence, so that all frames of a person change alike.
"""

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_AUGMENT = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.RandomRotation(degrees=15)], p=0.3),
        v2.ColorJitter(brightness=0.2, contrast=0.2),
    ]
)


def normalise(crops_TCHW: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 with ImageNet mean and deviation."""
    mean_C11 = torch.tensor(IMAGENET_MEAN)[:, None, None]
    std_C11 = torch.tensor(IMAGENET_STD)[:, None, None]
    return (crops_TCHW.float() / 255 - mean_C11) / std_C11


def augment(crops_TCHW: Tensor) -> Tensor:
    """Randomly changed uint8 crops, from torch's global generator."""
    changed: Tensor = _AUGMENT(tv_tensors.Video(crops_TCHW))
    return changed.as_subclass(Tensor)
