"""BiFormer-S: bi-level routing attention, where each region attends to the few regions most like it.

Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023, arXiv 2303.08810:
routing in section 3.2, the network in 3.3. Written from the paper; sizes and details are those of the
published BiFormer-S.

Every stage but the last is cut into 7 × 7 regions. A region's mean query and mean key give its score for
every region; the keys and values of the k best are gathered, and attention is over those alone. Which
they are depends on the image: two runtimes agree only where the k-th and the next score differ by more
than their rounding.
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
MLP_RATIO = 3
REGIONS = 7
"""Regions along one side of the image."""


class Stage(NamedTuple):
    """What one resolution of the network looks like; a region attends to `routed` regions, or all if None."""

    side: int
    width: int
    depth: int
    heads: int
    routed: int | None


# The last stage has 8 heads of 64 channels, as the paper's reference; the others have heads of 32.
STAGES = (
    Stage(side=56, width=64, depth=4, heads=2, routed=1),
    Stage(side=28, width=128, depth=4, heads=4, routed=4),
    Stage(side=14, width=256, depth=18, heads=8, routed=16),
    Stage(side=7, width=512, depth=4, heads=8, routed=None),
)


def local_encoding(width: int) -> nn.Conv2d:
    """The local context enhancement (LePE) beside attention: a depthwise 5 × 5 convolution."""
    return nn.Conv2d(width, width, 5, padding=2, groups=width)


class RoutedAttention(nn.Module):
    """Bi-level routing attention (section 3.2)."""

    def __init__(self, stage: Stage, routed: int) -> None:
        super().__init__()
        self.heads, self.routed = stage.heads, routed
        self.extent = stage.side // REGIONS
        self.scale = stage.width**-0.5  # of the whole width, not of a head's: the reference's choice
        self.project_in = nn.Linear(stage.width, 3 * stage.width)
        self.encoding = local_encoding(stage.width)
        self.project_out = nn.Linear(stage.width, stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same shape."""
        count, rows, columns, width = x.shape
        regions = split_windows(x, self.extent, self.extent)
        query, key_value = self.project_in(regions).split([width, 2 * width], dim=-1)
        key, value = key_value.split(width, dim=-1)
        image = join_windows(value, rows, columns, self.extent, self.extent)
        encoded = to_channels_last(self.encoding(to_channels_first(image)))
        tokens = self.routed * self.extent * self.extent
        gathered = key_value.index_select(0, self.route(query, key, count)).reshape(-1, tokens, 2 * width)
        far_key, far_value = (split_heads(part, self.heads) for part in gathered.split(width, dim=-1))
        mixed = join_heads(attend(split_heads(query, self.heads), far_key, far_value, self.scale))
        return self.project_out(join_windows(mixed, rows, columns, self.extent, self.extent) + encoded)

    def route(self, query: Tensor, key: Tensor, count: int) -> Tensor:
        """Indices [count * regions * routed] into the first axis of the keys [count * regions, tokens, C]."""
        mean_query, mean_key = (x.mean(dim=1).reshape(count, REGIONS * REGIONS, -1) for x in (query, key))
        scores = (mean_query * self.scale) @ mean_key.transpose(1, 2)
        _, indices = scores.topk(self.routed, dim=-1)
        if count > 1:
            indices = indices + REGIONS * REGIONS * torch.arange(count)[:, None, None]
        return indices.flatten()


class FullAttention(nn.Module):
    """Plain attention over the whole image, with LePE of its input; no bias on query, key and value."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.heads = stage.heads
        self.scale = (stage.width // stage.heads) ** -0.5
        self.project_in = nn.Linear(stage.width, 3 * stage.width, bias=False)
        self.encoding = local_encoding(stage.width)
        self.project_out = nn.Linear(stage.width, stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same shape."""
        projected = self.project_in(x.flatten(1, 2))
        query, key, value = (split_heads(part, self.heads) for part in projected.chunk(3, dim=-1))
        mixed = join_heads(attend(query, key, value, self.scale)).reshape(x.shape)
        return self.project_out(mixed + to_channels_last(self.encoding(to_channels_first(x))))


class Block(nn.Module):
    """Position encoding by a depthwise convolution, then attention and MLP; all three with a shortcut."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.position = nn.Conv2d(stage.width, stage.width, 3, padding=1, groups=stage.width)
        self.attention_norm = nn.LayerNorm(stage.width, eps=1e-6)
        self.attention = RoutedAttention(stage, stage.routed) if stage.routed else FullAttention(stage)
        self.mlp_norm = nn.LayerNorm(stage.width, eps=1e-6)
        self.mlp = Mlp(stage.width, MLP_RATIO * stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        x = to_channels_last(x + self.position(x))
        x = x + self.attention(self.attention_norm(x))
        return to_channels_first(x + self.mlp(self.mlp_norm(x)))


def halve(inputs: int, outputs: int) -> list[nn.Module]:
    """A 3 × 3 convolution of stride 2, and batch norm: [N, inputs, H, W] to [N, outputs, H / 2, W / 2]."""
    return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs)]


class BiFormer(nn.Module):
    """The classifier."""

    def __init__(self) -> None:
        super().__init__()
        first, last = STAGES[0].width, STAGES[-1].width
        stem = nn.Sequential(*halve(3, first // 2), nn.GELU(), *halve(first // 2, first))
        merges = [nn.Sequential(*halve(fine.width, coarse.width)) for fine, coarse in pairwise(STAGES)]
        self.embeddings = nn.ModuleList([stem, *merges])
        self.stages = nn.ModuleList(nn.Sequential(*(Block(s) for _ in range(s.depth))) for s in STAGES)
        self.norm = nn.BatchNorm2d(last)
        self.head = nn.Linear(last, CLASSES)
        self.apply(initialise_linear)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, 224, 224] image to [N, 1000] logits."""
        for embedding, stage in zip(self.embeddings, self.stages, strict=True):
            x = stage(embedding(x))
        return self.head(self.norm(x).mean(dim=(2, 3)))


def build() -> nn.Module:
    """BiFormer-S at 224 × 224."""
    return BiFormer()
