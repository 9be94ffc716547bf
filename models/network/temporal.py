"""T frame features -> one feature, by a Transformer that padding cannot influence.

- Own pre-norm block on scaled_dot_product_attention: nn.TransformerEncoder runs different code in
  training and evaluation (nested tensors), and its padding mask has open bugs on that path.
- The key mask is an additive bias of ``finfo.min``, not -inf: a fully padded row gives no NaN.
- Time enters as seconds, not as an index: the same video at another frame rate, or with frames
  missing, keeps its code.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SHORTEST_SECONDS = 1 / 60
_LONGEST_SECONDS = 60.0


class TimeEncoding(nn.Module):
    """Sinusoids of time in seconds, wavelengths from 1/60 s to 60 s (geometric)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        exponents = torch.linspace(
            math.log10(_SHORTEST_SECONDS), math.log10(_LONGEST_SECONDS), dim // 2
        )
        self.register_buffer("frequencies_D", 2 * math.pi / 10**exponents, persistent=False)

    def forward(self, seconds_BT: Tensor) -> Tensor:
        """Codes (B, T, D), always computed in fp32."""
        assert isinstance(self.frequencies_D, Tensor)
        angles_BTD = seconds_BT.float()[..., None] * self.frequencies_D
        return torch.cat([angles_BTD.sin(), angles_BTD.cos()], dim=-1)


class Block(nn.Module):
    """Pre-norm Transformer block."""

    def __init__(self, dim: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, key_bias_B11T: Tensor) -> Tensor:
        """Attention over the frames that the bias leaves visible, then the MLP."""
        qkv = self.qkv(self.attention_norm(x_BTD)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BHTK = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=key_bias_B11T,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        x_BTD = x_BTD + self.dropout(self.out(mixed_BHTK.transpose(1, 2).flatten(2)))
        changed_BTD: Tensor = x_BTD + self.dropout(self.mlp(self.mlp_norm(x_BTD)))
        return changed_BTD


def make_key_bias(mask_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """Make an attention bias (B, 1, 1, T) to add: 0 for frames, the smallest number for padding."""
    bias_BT = torch.zeros(mask_BT.shape, dtype=dtype, device=mask_BT.device)
    return bias_BT.masked_fill(~mask_BT, torch.finfo(dtype).min)[:, None, None, :]


class FramePooling(nn.Module):
    """Weighted mean over the real frames; a weight is a frame's share in the result.

    Args:
        dim: feature size D.
        learned: attention pooling; False: plain mean over real frames.
    """

    def __init__(self, dim: int, *, learned: bool) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1) if learned else None

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, D) and weights (B, T) that sum to 1 over real frames."""
        if self.score is None:
            scores_BT = torch.zeros(mask_BT.shape, device=x_BTD.device)
        else:
            scores_BT = self.score(x_BTD)[..., 0].float()
        hidden = torch.finfo(scores_BT.dtype).min
        weights_BT = scores_BT.masked_fill(~mask_BT, hidden).softmax(dim=1)
        return (x_BTD * weights_BT[..., None].to(x_BTD.dtype)).sum(1), weights_BT
