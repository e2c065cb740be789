"""CrossFormer-S: embeddings of several patch sizes, and attention that alternates short and long distance.

Wang et al., "CrossFormer", ICLR 2022, arXiv 2108.00154: cross-scale embedding layer (CEL), long short
distance attention (LSDA), dynamic position bias (DPB). Written from the paper; sizes are those of its
CrossFormer-S.

As in the paper's reference, the DPB is computed in the graph at every run, by its MLP over a constant
table of offsets. Export folds the MLP's first layer and stops at its layer norm; the rest is a compiler's
work. The MLP is a sixteenth as wide as the stage, as in the published checkpoints.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
GROUP = 7
"""Side of an attention group, in tokens."""
BIAS_RATIO = 16


class Stage(NamedTuple):
    """What one resolution of the network looks like; `kernels` are those of the embedding layer before it."""

    side: int
    width: int
    depth: int
    heads: int
    kernels: tuple[int, ...]
    stride: int


STAGES = (
    Stage(side=56, width=96, depth=2, heads=3, kernels=(4, 8, 16, 32), stride=4),
    Stage(side=28, width=192, depth=2, heads=6, kernels=(2, 4), stride=2),
    Stage(side=14, width=384, depth=6, heads=12, kernels=(2, 4), stride=2),
    Stage(side=7, width=768, depth=2, heads=24, kernels=(2, 4), stride=2),
)


class CrossScaleEmbedding(nn.Module):
    """Convolutions of one stride, side by side: the larger the kernel, the fewer its channels."""

    def __init__(self, inputs: int, stage: Stage) -> None:
        super().__init__()
        count = len(stage.kernels)
        # 1/2, 1/4, ... of the channels; the last kernel has as many as the one before it.
        halvings = [min(index, count - 1) for index in range(1, count + 1)]
        self.scales = nn.ModuleList(
            nn.Conv2d(inputs, stage.width >> halving, kernel, stage.stride, (kernel - stage.stride) // 2)
            for kernel, halving in zip(stage.kernels, halvings, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, H / stride, W / stride, width]."""
        return to_channels_last(torch.cat([scale(x) for scale in self.scales], dim=1))


class DynamicPositionBias(nn.Module):
    """An MLP from the offset between two tokens of a group to one bias a head."""

    offsets: Tensor
    pairs: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        hidden = width // BIAS_RATIO
        self.layers = nn.ModuleList(nn.Linear(inputs, hidden) for inputs in (2, hidden, hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in self.layers)
        self.head = nn.Linear(hidden, heads)
        reach = torch.arange(1 - GROUP, GROUP)
        self.register_buffer("offsets", torch.cartesian_prod(reach, reach).float(), persistent=False)
        tokens = torch.cartesian_prod(torch.arange(GROUP), torch.arange(GROUP))
        shifted = tokens[:, None] - tokens[None, :] + GROUP - 1
        pairs = shifted[..., 0] * len(reach) + shifted[..., 1]
        self.register_buffer("pairs", pairs.flatten(), persistent=False)

    def initialise(self) -> None:
        """Weights that give biases of unit size: with 0.02, outputs would not show whether there are any."""
        for layer in (*self.layers, self.head):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self) -> Tensor:
        """The bias [heads, tokens, tokens] of every pair of tokens in a group."""
        x = self.offsets
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        bias = self.head(x).index_select(0, self.pairs)
        return bias.reshape(GROUP * GROUP, GROUP * GROUP, -1).permute(2, 0, 1)


class LongShortAttention(nn.Module):
    """Attention in groups of 7 × 7 tokens: neighbours (short distance), or `interval` tokens apart (long)."""

    def __init__(self, stage: Stage, interval: int) -> None:
        super().__init__()
        self.heads = stage.heads
        self.scale = (stage.width // stage.heads) ** -0.5
        self.interval = interval
        self.project_in = nn.Linear(stage.width, 3 * stage.width)
        self.position_bias = DynamicPositionBias(stage.width, stage.heads)
        self.project_out = nn.Linear(stage.width, stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same shape."""
        _, rows, columns, _ = x.shape
        shares = self.project_in(self.gather_groups(x)).chunk(3, dim=-1)
        query, key, value = (split_heads(share, self.heads) for share in shares)
        mixed = attend(query, key, value, self.scale, self.position_bias())
        return self.scatter_groups(self.project_out(join_heads(mixed)), rows, columns)

    def gather_groups(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to [N * groups, 49, C]."""
        if self.interval == 1:
            return split_windows(x, GROUP, GROUP)
        count, _, _, channels = x.shape
        x = x.reshape(count, GROUP, self.interval, GROUP, self.interval, channels)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, GROUP * GROUP, channels)

    def scatter_groups(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """[N * groups, 49, C] back to [N, rows, columns, C]."""
        if self.interval == 1:
            return join_windows(x, rows, columns, GROUP, GROUP)
        x = x.reshape(-1, self.interval, self.interval, GROUP, GROUP, x.shape[-1])
        return x.permute(0, 3, 1, 4, 2, 5).reshape(-1, rows, columns, x.shape[-1])


class Block(nn.Module):
    """Attention and MLP, each after a layer norm and with a shortcut."""

    def __init__(self, stage: Stage, interval: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(stage.width)
        self.attention = LongShortAttention(stage, interval)
        self.mlp_norm = nn.LayerNorm(stage.width)
        self.mlp = Mlp(stage.width, MLP_RATIO * stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


def blocks_of(stage: Stage) -> nn.Sequential:
    """The stage's blocks: short distance, then long distance with groups that span the image, in turn."""
    intervals = (1, stage.side // GROUP)
    return nn.Sequential(*(Block(stage, intervals[index % 2]) for index in range(stage.depth)))


class CrossFormer(nn.Module):
    """The classifier."""

    def __init__(self) -> None:
        super().__init__()
        widths = [stage.width for stage in STAGES]
        self.embeddings = nn.ModuleList(map(CrossScaleEmbedding, [3, *widths], STAGES))
        # The first norm follows its embedding; the others precede theirs, on the stage before.
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in [widths[0], *widths[:-1]])
        self.stages = nn.ModuleList(blocks_of(stage) for stage in STAGES)
        self.final_norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], CLASSES)
        self.apply(initialise_linear)
        for module in self.modules():
            if isinstance(module, DynamicPositionBias):
                module.initialise()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, 224, 224] image to [N, 1000] logits."""
        x = self.stages[0](self.norms[0](self.embeddings[0](x)))
        for norm, embedding, stage in zip(self.norms[1:], self.embeddings[1:], self.stages[1:], strict=True):
            x = stage(embedding(to_channels_first(norm(x))))
        return self.head(self.final_norm(x).mean(dim=(1, 2)))


def build() -> nn.Module:
    """CrossFormer-S at 224 × 224."""
    return CrossFormer()
