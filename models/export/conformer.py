"""Conformer (S), the whole transducer (Gulati et al., Interspeech 2020, arXiv 2005.08100): 10.3 M parameters.

The published size counts the encoder (16 layers, 144 wide, 8.7 M), the single LSTM layer of the decoder and
the joint network, so all three are here: every frame is scored as the next label after those found so far.

Inputs, all static:
- features float32 [1, 2560, 80]: log-mel energies every 10 ms. No paper names a length; at 25.6 s the network
  costs SmartMem's 12 GMACs.
- positions float32 [1, 1279, 144]: sines and cosines of the distances 639 ... -639 between the 640 subsampled
  frames. An input, because utterances differ in length: were it a constant, the exporter would fold its
  projections into the 16 layers, 2.9 M numbers that are no parameters.
- labels int64 [1, 4]: the labels found so far, below 1024.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.blocks import join_heads, split_heads

OUTPUTS = ("logits",)
MELS = 80
VOCABULARY = 1024
WIDTH = 144
HEADS = 4
LAYERS = 16
# The paper's kernel is 32; 31 has a middle and keeps the length with equal padding on both sides.
KERNEL = 31
DECODER_WIDTH = 320
# Fresh attention is nearly uniform and adds the same mean to every frame. After a few layers all frames would
# be equal, and the outputs would show nothing of sound, keys or positions: sharper queries pick frames, and
# smaller branches keep them apart.
QUERY_GAIN = 3.0
BRANCH_GAIN = 0.3


class Subsampling(nn.Module):
    """Two strided 3x3 convolutions over time and frequency: a quarter of the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, WIDTH, 3, stride=2, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.project = nn.Linear(WIDTH * MELS // 4, WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        """Map [1, frames, 80] to [1, frames / 4, WIDTH]."""
        x = F.relu(self.second(F.relu(self.first(features.unsqueeze(1)))))
        return self.project(x.transpose(1, 2).flatten(2))


def shift(scores: Tensor) -> Tensor:
    """[1, H, T, 2T - 1], every row from distance T - 1 down, to [1, H, T, T] with distance i - j at (i, j).

    A column in front makes rows of 2T, so reading the same memory in rows of 2T - 1 moves row i by T - 1 - i.
    """
    _, heads, frames, distances = scores.shape
    padded = F.pad(scores, (1, 0)).reshape(1, heads, distances + 1, frames)
    return padded[:, :, 1:].reshape(1, heads, frames, distances)[..., :frames]


class RelativeAttention(nn.Module):
    """Self-attention with the relative positions of Transformer-XL (section 2.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.position = nn.Linear(WIDTH, WIDTH, bias=False)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.content_bias = nn.Parameter(torch.empty(HEADS, 1, WIDTH // HEADS))
        self.position_bias = nn.Parameter(torch.empty(HEADS, 1, WIDTH // HEADS))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map frames [1, T, WIDTH], with positions [1, 2T - 1, WIDTH], to [1, T, WIDTH]."""
        layers = (self.query(x), self.key(x), self.value(x), self.position(positions))
        query, key, value, position = (split_heads(y, HEADS) for y in layers)
        content = (query + self.content_bias) @ key.transpose(-2, -1)
        distance = shift((query + self.position_bias) @ position.transpose(-2, -1))
        scores = (content + distance) * (WIDTH // HEADS) ** -0.5
        return self.project(join_heads(scores.softmax(dim=-1) @ value))


class Convolution(nn.Module):
    """Gated pointwise, depthwise, batch norm, Swish, pointwise (section 2.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.project = nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames [1, T, WIDTH] to [1, T, WIDTH]."""
        gated = F.glu(self.gate(x.transpose(1, 2)), dim=1)
        return self.project(F.silu(self.norm(self.depthwise(gated)))).transpose(1, 2)


class FeedForward(nn.Module):
    """Norm, expansion, Swish, contraction (section 2.3); the layer halves what it adds."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.expand = nn.Linear(WIDTH, 4 * WIDTH)
        self.project = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames [1, T, WIDTH] to [1, T, WIDTH]."""
        return self.project(F.silu(self.expand(self.norm(x))))


class Layer(nn.Module):
    """Half a feed-forward module, attention, convolution, the other half, a norm (section 2.4, eq. 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.before = FeedForward()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.attention = RelativeAttention()
        self.convolution_norm = nn.LayerNorm(WIDTH)
        self.convolution = Convolution()
        self.after = FeedForward()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map frames [1, T, WIDTH] to [1, T, WIDTH]."""
        x = x + 0.5 * self.before(x)
        x = x + self.attention(self.attention_norm(x), positions)
        x = x + self.convolution(self.convolution_norm(x))
        return self.norm(x + 0.5 * self.after(x))


class Decoder(nn.Module):
    """One LSTM layer over the labels found so far, unrolled: only its last state is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, DECODER_WIDTH)
        self.from_label = nn.Linear(DECODER_WIDTH, 4 * DECODER_WIDTH)
        # No nn.Linear: the graph would hold its transposed weight once a step.
        self.from_state = nn.Parameter(torch.empty(DECODER_WIDTH, 4 * DECODER_WIDTH))
        nn.init.xavier_uniform_(self.from_state)

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels [1, L] to the state after them, [1, 1, DECODER_WIDTH]."""
        steps = self.from_label(self.embed(labels)).split(1, dim=1)
        # The state before the first label is zero, so nothing comes from it.
        state, cell = self.step(steps[0], None)
        for gates in steps[1:]:
            state, cell = self.step(gates + state @ self.from_state, cell)
        return state

    def step(self, gates: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
        """Give the next state and cell, each [1, 1, DECODER_WIDTH], from the sums of the four gates."""
        enter, forget, candidate, leave = gates.chunk(4, dim=-1)
        fresh = enter.sigmoid() * candidate.tanh()
        cell = fresh if cell is None else forget.sigmoid() * cell + fresh
        return leave.sigmoid() * cell.tanh(), cell


class Joint(nn.Module):
    """Sum of the projected encoder frames and decoder state, tanh, scores of all labels."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Linear(WIDTH, DECODER_WIDTH)
        self.state = nn.Linear(DECODER_WIDTH, DECODER_WIDTH)
        self.scores = nn.Linear(DECODER_WIDTH, VOCABULARY)

    def forward(self, frames: Tensor, state: Tensor) -> Tensor:
        """Map frames [1, T, WIDTH] and state [1, 1, DECODER_WIDTH] to logits [1, T, VOCABULARY]."""
        return self.scores((self.frames(frames) + self.state(state)).tanh())


def initialise(module: nn.Module) -> None:
    """Normal weights of variance 1 / fan-in, times the gains, and zero biases; for `apply`, inside out."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, RelativeAttention):
        nn.init.normal_(module.content_bias)
        nn.init.normal_(module.position_bias)
        module.query.weight.data.mul_(QUERY_GAIN)
    if isinstance(module, RelativeAttention | Convolution | FeedForward):
        module.project.weight.data.mul_(BRANCH_GAIN)


class Conformer(nn.Module):
    """The transducer: subsampling, encoder layers, decoder, joint network."""

    def __init__(self) -> None:
        super().__init__()
        self.subsampling = Subsampling()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.decoder = Decoder()
        self.joint = Joint()
        self.apply(initialise)

    def forward(self, features: Tensor, positions: Tensor, labels: Tensor) -> Tensor:
        """Give logits [1, T, VOCABULARY].

        features [1, 4T, 80], positions [1, 2T - 1, WIDTH], labels [1, L] below VOCABULARY.
        """
        frames = self.subsampling(features)
        for layer in self.layers:
            frames = layer(frames, positions)
        return self.joint(frames, self.decoder(labels))


def build() -> nn.Module:
    """Conformer (S) with fresh weights."""
    return Conformer()
