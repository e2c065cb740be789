"""Attention of the diffusion networks, spelled out: diffusers' own processors export worse.

Its default is a fused operator; its plain one is `baddbmm` with a factor of 0, which leaves an addition of a
table of zeros in every attention of the graph.
"""

from diffusers.models.attention_processor import Attention
from torch import Tensor

from models.export.blocks import attend, join_heads, split_heads


class PlainAttention:
    """A diffusers attention processor: projections, matmul, softmax, matmul, projection."""

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Tokens [1, T, C], or an image [1, C, H, W] whose pixels are the tokens, to the same shape."""
        assert attention_mask is None
        x = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
        if attention.group_norm is not None:
            x = attention.group_norm(x.transpose(1, 2)).transpose(1, 2)
        context = x if encoder_hidden_states is None else encoder_hidden_states
        query = split_heads(attention.to_q(x), attention.heads)
        key = split_heads(attention.to_k(context), attention.heads)
        value = split_heads(attention.to_v(context), attention.heads)
        x = attention.to_out[0](join_heads(attend(query, key, value, attention.scale)))
        if hidden_states.ndim == 4:
            x = x.transpose(1, 2).reshape(hidden_states.shape)
        if attention.residual_connection:
            x = x + hidden_states
        return x / attention.rescale_output_factor if attention.rescale_output_factor != 1 else x
