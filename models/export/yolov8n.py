"""YOLOv8n for 80 classes at 640x640, with box decoding and without NMS, from the published configuration.

A backbone of C2f stages, a path aggregation neck, and a decoupled head that predicts every side of a box as a
distribution (Li et al., NeurIPS 2020, arXiv 2006.04388). The widths are those of scale "n".

Boxes are pixels and scores are probabilities, so they are two outputs: each can be compared by itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = ("boxes", "scores")
CLASSES = 80
IMAGE_SIZE = 640
SIDE_BINS = 16
STRIDES = (8, 16, 32)
WIDTHS = (16, 32, 64, 128, 256)
DEPTHS = (1, 2, 2, 1)
# Where SiLU is nearly linear. At 1 it amplifies what is larger and damps what is smaller: after twenty-five
# layers a small change of the image or of the weights would make the outputs many times larger, or constant.
HIDDEN_SIZE = 0.125
# Drawn anew, logits come out tens of times larger: at 1 scores saturate, and a softmax reaches denormal
# numbers.
LOGIT_SIZE = 0.02


class ConvUnit(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, in_channels, H, W] to [1, out_channels, H / stride, W / stride]."""
        return F.silu(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, with a residual in the backbone and without one in the neck."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.first = ConvUnit(channels, channels, 3)
        self.second = ConvUnit(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, channels, H, W] to the same shape."""
        y = self.second(self.first(x))
        return x + y if self.residual else y


class C2f(nn.Module):
    """A cross-stage partial block: half the channels pass a chain of bottlenecks, and every link is kept."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = out_channels // 2
        self.enter = ConvUnit(in_channels, out_channels)
        self.chain = nn.ModuleList(Bottleneck(half, residual) for _ in range(depth))
        self.leave = ConvUnit((2 + depth) * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, in_channels, H, W] to [1, out_channels, H, W]."""
        links = list(self.enter(x).chunk(2, dim=1))
        for bottleneck in self.chain:
            links.append(bottleneck(links[-1]))
        return self.leave(torch.cat(links, dim=1))


class PyramidPooling(nn.Module):
    """SPPF: three 5x5 max pools in a row see 5, 9 and 13 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvUnit(channels, channels // 2)
        self.leave = ConvUnit(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, channels, H, W] to the same shape."""
        pools = [self.enter(x)]
        for _ in range(3):
            pools.append(F.max_pool2d(pools[-1], 5, stride=1, padding=2))
        return self.leave(torch.cat(pools, dim=1))


class Backbone(nn.Module):
    """Five halvings of the image; the last three resolutions leave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, WIDTHS[0], 3, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvUnit(before, width, 3, stride=2), C2f(width, width, depth, residual=True))
            for before, width, depth in zip(WIDTHS, WIDTHS[1:], DEPTHS, strict=False)
        )
        self.pool = PyramidPooling(WIDTHS[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map an image [1, 3, 640, 640] to features of strides 8, 16 and 32."""
        levels = [self.stem(x)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return [levels[2], levels[3], self.pool(levels[4])]


class Neck(nn.Module):
    """A path aggregation network: coarse features go down to the fine ones, and back up."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS[2:]
        self.middle_down = C2f(middle + coarse, middle, 1, residual=False)
        self.fine_down = C2f(fine + middle, fine, 1, residual=False)
        self.fine_halve = ConvUnit(fine, fine, 3, stride=2)
        self.middle_up = C2f(fine + middle, middle, 1, residual=False)
        self.middle_halve = ConvUnit(middle, middle, 3, stride=2)
        self.coarse_up = C2f(middle + coarse, coarse, 1, residual=False)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map features of strides 8, 16 and 32 to features of the same shapes."""
        fine, middle, coarse = levels
        middle = self.middle_down(torch.cat((double(coarse), middle), dim=1))
        fine = self.fine_down(torch.cat((double(middle), fine), dim=1))
        middle = self.middle_up(torch.cat((self.fine_halve(fine), middle), dim=1))
        coarse = self.coarse_up(torch.cat((self.middle_halve(middle), coarse), dim=1))
        return [fine, middle, coarse]


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def branch(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 units and a 1x1 convolution: one task of the decoupled head at one stride."""
    last = nn.Conv2d(hidden, out_channels, 1)
    nn.init.zeros_(last.bias)
    return nn.Sequential(ConvUnit(in_channels, hidden, 3), ConvUnit(hidden, hidden, 3), last)


def anchor_points() -> tuple[Tensor, Tensor]:
    """Centres of all cells, in cells, [1, 2, 8400] as (x, y), and their strides, [1, 8400]."""
    points, strides = [], []
    for stride in STRIDES:
        centres = torch.arange(IMAGE_SIZE // stride) + 0.5
        row, column = torch.meshgrid(centres, centres, indexing="ij")
        points.append(torch.stack((column.flatten(), row.flatten())))
        strides.append(torch.full((1, column.numel()), float(stride)))
    return torch.cat(points, dim=1)[None], torch.cat(strides, dim=1)


class Head(nn.Module):
    """Box and class branches at three strides, and the decoding of boxes to pixels."""

    def __init__(self) -> None:
        super().__init__()
        levels = WIDTHS[2:]
        box_hidden = max(16, levels[0] // 4, 4 * SIDE_BINS)
        class_hidden = max(levels[0], min(CLASSES, 100))
        self.boxes = nn.ModuleList(branch(width, box_hidden, 4 * SIDE_BINS) for width in levels)
        self.classes = nn.ModuleList(branch(width, class_hidden, CLASSES) for width in levels)
        points, strides = anchor_points()
        self.register_buffer("points", points)
        self.register_buffer("strides", strides)
        self.register_buffer("bins", torch.arange(float(SIDE_BINS)).reshape(1, SIDE_BINS, 1, 1))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give boxes [1, 4, 8400], in pixels: centre x and y, width, height; and scores [1, 80, 8400]."""
        sides = join_levels(self.boxes, levels)
        scores = join_levels(self.classes, levels).sigmoid()
        return self.decode(sides), scores

    def decode(self, sides: Tensor) -> Tensor:
        """Turn logits [1, 4 * 16, 8400] over distances in cells to boxes in pixels [1, 4, 8400]."""
        cells = sides.shape[-1]
        logits = sides.reshape(1, 4, SIDE_BINS, cells).transpose(1, 2)
        distances = F.conv2d(logits.softmax(dim=1), self.bins).reshape(1, 4, cells)
        left_top, right_bottom = distances.chunk(2, dim=1)
        low, high = self.points - left_top, self.points + right_bottom
        return torch.cat(((low + high) / 2, high - low), dim=1) * self.strides


def join_levels(branches: nn.ModuleList, levels: Sequence[Tensor]) -> Tensor:
    """Apply each level's branch and lay the cells of all levels side by side: [1, channels, 8400]."""
    maps = [branch(level) for branch, level in zip(branches, levels, strict=True)]
    return torch.cat([level.flatten(2) for level in maps], dim=2)


def resize_output(convolution: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Scale a convolution, its bias zero or absent, to the size its outputs shall have; a forward hook."""
    size = HIDDEN_SIZE if convolution.bias is None else LOGIT_SIZE
    factor = size / output.square().mean().sqrt()
    convolution.weight.mul_(factor)
    return output * factor


@torch.no_grad()
def calibrate(network: nn.Module) -> None:
    """Scale every convolution by one factor, so that a random image gives outputs of the wanted mean square.

    That is what batch norm does in a trained network, and LSUV (Mishkin and Matas, ICLR 2016) in a fresh one.
    With PyTorch's default weights, and batch norms that have never seen data, activations would shrink to a
    third in every layer, and the outputs would not depend on the image.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [convolution.register_forward_hook(resize_output) for convolution in convolutions]
    network.eval()(torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    for hook in hooks:
        hook.remove()


class Yolo(nn.Module):
    """The whole detector."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = Backbone(), Neck(), Head()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Not zero, so that the biases of the folded convolutions can be told from absent ones.
                nn.init.normal_(module.bias, std=HIDDEN_SIZE / 5)
        calibrate(self)
        # Class biases stay zero. Published ones begin at scores of 1e-5, where a fast sigmoid, right to 1e-7,
        # has few digits left to compare.
        for boxes in self.head.boxes:
            nn.init.ones_(boxes[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image [1, 3, 640, 640] to boxes [1, 4, 8400] in pixels and scores [1, 80, 8400]."""
        return self.head(self.neck(self.backbone(x)))


def build() -> nn.Module:
    """YOLOv8n with fresh weights."""
    return Yolo()
