"""Small pieces that our own vision networks share: attention, windows, MLP, initialisation."""

from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them, over the last axis."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        return self.contract(F.gelu(self.expand(x)))


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention, spelled out so that the graph shows it.

    query [..., M, D], key [..., N, D], value [..., N, E]; `bias` is added to the scores [..., M, N].
    Gives [..., M, E].
    """
    scores = (query * scale) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    return scores.softmax(dim=-1) @ value


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, tokens, heads * D] to [N, heads, tokens, D]."""
    count, tokens, width = x.shape
    return x.reshape(count, tokens, heads, width // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[N, heads, tokens, D] to [N, tokens, heads * D]."""
    count, heads, tokens, width = x.shape
    return x.transpose(1, 2).reshape(count, tokens, heads * width)


def split_windows(x: Tensor, height: int, width: int) -> Tensor:
    """[N, H, W, C] to [N * windows, height * width, C]: contiguous windows, row by row."""
    count, rows, columns, channels = x.shape
    x = x.reshape(count, rows // height, height, columns // width, width, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height * width, channels)


def join_windows(x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
    """[N * windows, height * width, C] back to [N, rows, columns, C]."""
    x = x.reshape(-1, rows // height, columns // width, height, width, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, x.shape[-1])


def to_channels_last(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, H, W, C]."""
    return x.permute(0, 2, 3, 1)


def to_channels_first(x: Tensor) -> Tensor:
    """[N, H, W, C] to [N, C, H, W]."""
    return x.permute(0, 3, 1, 2)


def initialise_linear(module: nn.Module) -> None:
    """For `apply`: truncated normal weights of standard deviation 0.02 and zero biases, as in ViT."""
    if not isinstance(module, nn.Linear):
        return
    nn.init.trunc_normal_(module.weight, std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
