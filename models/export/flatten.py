"""FLatten-PVT-M (Han et al., ICCV 2023, arXiv 2308.00442), 224x224, 1000 classes.

Of the paper's backbones, PVT-Medium is the one with the size of SmartMem's row: 37.2 M parameters, 7.0 GMACs.
Focused linear attention replaces softmax attention in all four stages and attends to every token: the spatial
reduction of PVT (Wang et al., ICCV 2021) is gone, its widths and depths stay.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.blocks import Mlp, initialise_linear, join_heads, split_heads

OUTPUTS = ("logits",)
CLASSES = 1000
IMAGE_SIZE = 224
FOCUSING_FACTOR = 3
RANK_KERNEL = 5
# Keeps the features of a token that ReLU would silence away from 0 / 0 in the focusing norm.
FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Stage:
    """One resolution: a patch embedding of stride `stride`, then `depth` blocks."""

    width: int
    heads: int
    depth: int
    mlp_ratio: int
    stride: int


STAGES = (
    Stage(width=64, heads=1, depth=3, mlp_ratio=8, stride=4),
    Stage(width=128, heads=2, depth=4, mlp_ratio=8, stride=2),
    Stage(width=320, heads=5, depth=18, mlp_ratio=4, stride=2),
    Stage(width=512, heads=8, depth=3, mlp_ratio=4, stride=2),
)


def focus(x: Tensor) -> Tensor:
    """Sharpen directions and keep lengths: f_p(x) = |x| / |x^p| * x^p over the last axis (section 4.1)."""
    powered = x**FOCUSING_FACTOR
    length, powered_length = (y.norm(dim=-1, keepdim=True) for y in (x, powered))
    return powered / powered_length * length


class FocusedLinearAttention(nn.Module):
    """phi(Q) (phi(K)^T V), normalised, plus a depthwise convolution of V that restores the rank (4.3)."""

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        # One filter for each channel of a head, shared by all heads.
        head_width = width // heads
        self.rank = nn.Conv2d(
            head_width, head_width, RANK_KERNEL, padding=RANK_KERNEL // 2, groups=head_width
        )
        self.scale = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, size * size, width))
        # Equal scales cancel out of the normalised attention, and zero positions are no positions:
        # neither would then reach the output. Both start at random values, positions as large as the keys.
        nn.init.trunc_normal_(self.scale, std=0.1)
        nn.init.trunc_normal_(self.position, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, tokens, width] to [1, tokens, width]."""
        key, value = self.key_value(x).chunk(2, dim=-1)
        scale = F.softplus(self.scale)
        query = split_heads(focus((F.relu(self.query(x)) + FLOOR) / scale), self.heads)
        key = split_heads(focus((F.relu(key + self.position) + FLOOR) / scale), self.heads)
        value = split_heads(value, self.heads)
        # Means instead of sums over the tokens: the factor cancels, and the numbers keep a moderate size.
        normaliser = query @ key.mean(dim=2, keepdim=True).transpose(-2, -1) + FLOOR
        context = key.transpose(-2, -1) @ (value / value.shape[2])
        return self.project(join_heads(query @ context / normaliser + self.restore_rank(value)))

    def restore_rank(self, value: Tensor) -> Tensor:
        """The depthwise convolution of every head's [1, heads, tokens, D] as an image: same shape."""
        _, heads, tokens, head_width = value.shape
        image = value.transpose(-2, -1).reshape(heads, head_width, self.size, self.size)
        return self.rank(image).reshape(1, heads, head_width, tokens).transpose(-2, -1)


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, stage: Stage, size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(stage.width, eps=1e-6)
        self.attention = FocusedLinearAttention(stage.width, stage.heads, size)
        self.mlp_norm = nn.LayerNorm(stage.width, eps=1e-6)
        self.mlp = Mlp(stage.width, stage.width * stage.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, tokens, width] to [1, tokens, width]."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class StageModule(nn.Module):
    """Patch embedding, learned positions, blocks."""

    def __init__(self, stage: Stage, in_channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.Conv2d(in_channels, stage.width, stage.stride, stride=stage.stride)
        self.norm = nn.LayerNorm(stage.width)
        self.position = nn.Parameter(torch.empty(1, size * size, stage.width))
        self.blocks = nn.Sequential(*(Block(stage, size) for _ in range(stage.depth)))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image [1, in_channels, H, W] to [1, width, size, size]."""
        tokens = self.norm(self.embed(x).flatten(2).transpose(1, 2)) + self.position
        tokens = self.blocks(tokens)
        return tokens.transpose(1, 2).reshape(1, tokens.shape[-1], self.size, self.size)


class Flatten(nn.Module):
    """The whole classifier: four stages, mean over the tokens, one linear layer.

    The mean takes the place of PVT's class token, which has no pixel that the convolution on V could read.
    """

    def __init__(self) -> None:
        super().__init__()
        stages, channels, size = [], 3, IMAGE_SIZE
        for stage in STAGES:
            size //= stage.stride
            stages.append(StageModule(stage, channels, size))
            channels = stage.width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, CLASSES)
        self.apply(initialise_linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image [1, 3, 224, 224] to logits [1, 1000]."""
        tokens = self.stages(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(tokens).mean(dim=1))


def build() -> nn.Module:
    """FLatten-PVT-M with fresh weights."""
    return Flatten()
