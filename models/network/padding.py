"""The zero padding that ``efficientnet_pytorch`` would have used, in a timm backbone.

Both pad a strided convolution so that its output is ceil(input / stride) wide, as TensorFlow's SAME
does. timm uses the size of each picture. ``efficientnet_pytorch`` chooses the pads when a network
is built, for the size it is built for; for pictures of other sizes the two differ. Release 0.6
assumes that every layer's input is as large as the picture, 0.7 follows the shrinking map.
"""

import math

from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from reelcheck.errors import SettingsError
from reelcheck.train_config import PaddingSettings

Pads = tuple[int, int]
"""Zeros before and after, alike for rows and columns."""


class StaticPaddedConv2d(nn.Conv2d):
    """A convolution with fixed zero padding, not the same on both sides; square kernels only."""

    def __init__(self, conv: nn.Conv2d, pads: Pads) -> None:
        # Built without storage: the weights are those of the convolution that it replaces.
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            stride=(conv.stride[0], conv.stride[1]),
            groups=conv.groups,
            bias=False,
            device="meta",
        )
        self.weight = conv.weight
        self.bias = conv.bias
        self.pads = pads

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        padded = F.pad(input, self.pads * 2)
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def compute_same_pads(pixels: int, *, kernel: int, stride: int) -> Pads:
    """Compute TensorFlow's SAME padding of a side of ``pixels``: the odd zero comes last."""
    total = max((math.ceil(pixels / stride) - 1) * stride + kernel - pixels, 0)
    return total // 2, total - total // 2


def apply_padding(backbone: nn.Module, padding: PaddingSettings) -> None:
    """Give each strided convolution of a timm backbone fixed pads, in place.

    Names and values of the weights stay as they are. Convolutions of stride 1 pad alike in both.

    Args:
        backbone: one of timm's ``tf_efficientnet_*``.
        padding: release whose pads are used, and the size that they were made for.

    Raises:
        SettingsError: the backbone has no such convolution.
    """
    # In an EfficientNet the modules lie in the order in which they run.
    strided = [name for name, m in backbone.named_modules() if isinstance(m, Conv2dSame)]
    if not strided:
        raise SettingsError(
            "detector.padding is for timm's tf_efficientnet_* backbones, the only ones that "
            "efficientnet_pytorch weights fit; leave it out"
        )
    pixels = padding.built_for_pixels
    for number, name in enumerate(strided):
        conv = backbone.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        pads = compute_same_pads(pixels, kernel=conv.kernel_size[0], stride=conv.stride[0])
        if number == 0 and padding.unpadded_stem:
            pads = (0, 0)
        backbone.set_submodule(name, StaticPaddedConv2d(conv, pads))
        if padding.style == "efficientnet-pytorch-0.7":
            pixels = math.ceil(pixels / conv.stride[0])
