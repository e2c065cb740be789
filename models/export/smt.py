"""SMT-S, Scale-Aware Modulation Transformer (Lin et al., ICCV 2023, arXiv 2307.08579), 224x224 images."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.blocks import attend, initialise_linear, join_heads, split_heads

OUTPUTS = ("logits",)
CLASSES = 1000
MIX_KERNELS = (3, 5, 7, 9)
AGGREGATION_EXPANSION = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """One resolution: `mixers` names the token mixers of its blocks, which repeat in this order."""

    width: int
    depth: int
    mlp_ratio: int
    mixers: tuple[str, ...]
    attention_heads: int = 0


# Evolutionary hybrid network: modulation early, attention late, both in turn between.
STAGES = (
    Stage(width=64, depth=3, mlp_ratio=4, mixers=("modulation",)),
    Stage(width=128, depth=4, mlp_ratio=4, mixers=("modulation",)),
    Stage(width=256, depth=18, mlp_ratio=4, mixers=("modulation", "attention"), attention_heads=8),
    Stage(width=512, depth=2, mlp_ratio=2, mixers=("attention",), attention_heads=16),
)


def to_image(tokens: Tensor) -> Tensor:
    """[1, side * side, C] to [1, C, side, side]."""
    _, count, channels = tokens.shape
    side = math.isqrt(count)
    return tokens.transpose(1, 2).reshape(1, channels, side, side)


def to_tokens(image: Tensor) -> Tensor:
    """[1, C, H, W] to [1, H * W, C]."""
    return image.flatten(2).transpose(1, 2)


def depthwise(channels: int, kernel: int) -> nn.Module:
    """A depthwise convolution that keeps the resolution."""
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


class ScaleAwareModulation(nn.Module):
    """Values multiplied by a modulator of several receptive fields (section 3.2).

    Z = V * M with V = W_v X and M = SAA(MHMC(W_s X)).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = len(MIX_KERNELS)
        groups, hidden = width // heads, width * AGGREGATION_EXPANSION
        self.value = nn.Linear(width, width)
        self.scale = nn.Linear(width, width)
        # Multi-head mixed convolution: every head has its own kernel size.
        self.mix = nn.ModuleList(depthwise(width // heads, kernel) for kernel in MIX_KERNELS)
        # Scale-aware aggregation: first inside groups of one channel of every head, then across the groups.
        self.within = nn.Conv2d(width, hidden, 1, groups=groups)
        self.norm = nn.BatchNorm2d(hidden)
        self.across = nn.Conv2d(hidden, width, 1)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [1, N, width] to [1, N, width]."""
        image = to_image(self.scale(x))
        heads = image.chunk(len(MIX_KERNELS), dim=1)
        mixed = [mix(head) for mix, head in zip(self.mix, heads, strict=True)]
        grouped = torch.stack(mixed, dim=2).reshape(image.shape)
        modulator = self.across(F.gelu(self.norm(self.within(grouped))))
        return self.project(to_tokens(modulator) * self.value(x))


class Attention(nn.Module):
    """Multi-head self-attention over all tokens; a depthwise convolution of the values adds their places."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.local = depthwise(width, 3)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [1, N, width] to [1, N, width]."""
        key, value = self.key_value(x).chunk(2, dim=-1)
        query, keys, values = (split_heads(y, self.heads) for y in (self.query(x), key, value))
        attended = join_heads(attend(query, keys, values, scale=query.shape[-1] ** -0.5))
        return self.project(attended + to_tokens(self.local(to_image(value))))


class ConvolutionalMlp(nn.Module):
    """An MLP whose hidden layer also sees its 3x3 neighbourhood."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.neighbours = depthwise(hidden, 3)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [1, N, width] to [1, N, width]."""
        hidden = self.expand(x)
        return self.contract(F.gelu(hidden + to_tokens(self.neighbours(to_image(hidden)))))


class Block(nn.Module):
    """Pre-norm token mixer and MLP, each with a residual."""

    def __init__(self, stage: Stage, index: int) -> None:
        super().__init__()
        width, mixer = stage.width, stage.mixers[index % len(stage.mixers)]
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = (
            ScaleAwareModulation(width) if mixer == "modulation" else Attention(width, stage.attention_heads)
        )
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = ConvolutionalMlp(width, width * stage.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [1, N, width] to [1, N, width]."""
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.mlp(self.mlp_norm(x))


def stem(width: int) -> nn.Module:
    """Two strided convolutions: an image [1, 3, H, W] to [1, width, H / 4, W / 4]."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 2, stride=2),
    )


class StageModule(nn.Module):
    """Embedding to a lower resolution, blocks, a final norm."""

    def __init__(self, stage: Stage, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.embed_norm = nn.LayerNorm(stage.width)
        self.blocks = nn.Sequential(*(Block(stage, index) for index in range(stage.depth)))
        self.norm = nn.LayerNorm(stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image [1, C, H, W] to [1, width, H', W']."""
        return to_image(self.norm(self.blocks(self.embed_norm(to_tokens(self.embed(x))))))


def initialise_convolution(module: nn.Module) -> None:
    """Normal weights of variance 2 / fan-out and zero biases; for `apply`."""
    if not isinstance(module, nn.Conv2d):
        return
    fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
    nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class ScaleAwareModulationTransformer(nn.Module):
    """The whole classifier: four stages, mean over the tokens, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        stages = [StageModule(STAGES[0], stem(STAGES[0].width))]
        for before, stage in pairwise(STAGES):
            halve = nn.Conv2d(before.width, stage.width, 3, stride=2, padding=1)
            stages.append(StageModule(stage, halve))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(STAGES[-1].width, CLASSES)
        self.apply(initialise_linear)
        self.apply(initialise_convolution)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image [1, 3, 224, 224] to logits [1, 1000]."""
        return self.head(to_tokens(self.stages(x)).mean(dim=1))


def build() -> nn.Module:
    """SMT-S with fresh weights."""
    return ScaleAwareModulationTransformer()
