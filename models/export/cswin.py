"""CSWin-S: attention in cross-shaped windows, half of the heads in vertical and half in horizontal stripes.

Dong et al., "CSWin Transformer", CVPR 2022, arXiv 2107.00652: stripes, locally-enhanced positional
encoding (LePE) and blocks in section 3. Written from the paper; sizes are those of its CSWin-S.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.export.blocks import (
    Mlp,
    attend,
    initialise_linear,
    join_heads,
    join_windows,
    split_heads,
    split_windows,
    to_channels_first,
    to_channels_last,
)

OUTPUTS = ("logits",)
CLASSES = 1000
MLP_RATIO = 4


class Stage(NamedTuple):
    """What one resolution of the network looks like; `stripe` is the stripe width in tokens."""

    side: int
    width: int
    depth: int
    heads: int
    stripe: int


STAGES = (
    Stage(side=56, width=64, depth=2, heads=2, stripe=1),
    Stage(side=28, width=128, depth=4, heads=4, stripe=2),
    Stage(side=14, width=256, depth=32, heads=8, stripe=7),
    Stage(side=7, width=512, depth=2, heads=16, stripe=7),
)


class StripeAttention(nn.Module):
    """Attention in windows of `height` × `width` tokens, plus LePE: a depthwise convolution of the values."""

    def __init__(self, channels: int, heads: int, height: int, width: int) -> None:
        super().__init__()
        self.heads, self.height, self.width = heads, height, width
        self.scale = (channels // heads) ** -0.5
        self.encoding = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Three tensors [N, H, W, C] to one."""
        _, rows, columns, _ = query.shape
        windows = [split_windows(x, self.height, self.width) for x in (query, key, value)]
        query, key, value = (split_heads(x, self.heads) for x in windows)
        tokens = join_heads(attend(query, key, value, self.scale)) + self.encode(windows[-1])
        return join_windows(tokens, rows, columns, self.height, self.width)

    def encode(self, value: Tensor) -> Tensor:
        """LePE of [windows, tokens, C]; zeros pad each window, so that none sees its neighbours."""
        image = value.transpose(1, 2).reshape(-1, value.shape[-1], self.height, self.width)
        return self.encoding(image).flatten(2).transpose(1, 2)


class CrossAttention(nn.Module):
    """Vertical and horizontal stripes side by side, or one attention if a stripe would cover the image."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        side, width, heads, stripe = stage.side, stage.width, stage.heads, stage.stripe
        shapes = [(side, side)] if stripe == side else [(side, stripe), (stripe, side)]
        self.share = width // len(shapes)
        self.project_in = nn.Linear(width, 3 * width)
        self.stripes = nn.ModuleList(
            StripeAttention(self.share, heads // len(shapes), height, breadth) for height, breadth in shapes
        )
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same shape."""
        # Channels are query, key, value, and within each one share for every stripe direction.
        shares = self.project_in(x).split(self.share, dim=-1)
        directions = len(self.stripes)
        parts = [stripe(*shares[index::directions]) for index, stripe in enumerate(self.stripes)]
        return self.project_out(torch.cat(parts, dim=-1) if directions > 1 else parts[0])


class Block(nn.Module):
    """Attention and MLP, each after a layer norm and with a shortcut."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(stage.width)
        self.attention = CrossAttention(stage)
        self.mlp_norm = nn.LayerNorm(stage.width)
        self.mlp = Mlp(stage.width, MLP_RATIO * stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Embedding(nn.Module):
    """An overlapping strided convolution and a layer norm: tokens of the image, or half as many a side."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, H / stride, W / stride, outputs]."""
        return self.norm(to_channels_last(self.convolution(x)))


class CSWin(nn.Module):
    """The classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = Embedding(3, STAGES[0].width, kernel=7, stride=4, padding=2)
        self.stages = nn.ModuleList(nn.Sequential(*(Block(s) for _ in range(s.depth))) for s in STAGES)
        widths = pairwise(stage.width for stage in STAGES)
        self.merges = nn.ModuleList(Embedding(*pair, kernel=3, stride=2, padding=1) for pair in widths)
        self.norm = nn.LayerNorm(STAGES[-1].width)
        self.head = nn.Linear(STAGES[-1].width, CLASSES)
        self.apply(initialise_linear)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, 224, 224] image to [N, 1000] logits."""
        x = self.stages[0](self.embed(x))
        for merge, stage in zip(self.merges, self.stages[1:], strict=True):
            x = stage(merge(to_channels_first(x)))
        return self.head(self.norm(x).mean(dim=(1, 2)))


def build() -> nn.Module:
    """CSWin-S at 224 × 224."""
    return CSWin()
