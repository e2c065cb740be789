"""Pythia-1B: a GPT-NeoX decoder with rotary positions and parallel residuals (Biderman et al., ICML 2023)."""

from typing import Any

from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

OUTPUTS = ("logits",)
HUB_NAME = "EleutherAI/pythia-1b"
CONFIGURATION: dict[str, Any] = {
    "vocab_size": 50304,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "max_position_embeddings": 2048,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


class LanguageModel(nn.Module):
    """One pass over a whole prompt, without a cache: logits for every position."""

    def __init__(self, network: GPTNeoXForCausalLM) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token numbers [1, 128] to logits [1, 128, 50304]."""
        return self.network(input_ids=input_ids, use_cache=False).logits


def build(pretrained: bool = False) -> nn.Module:
    """Takes token numbers int64 [1, 128]; gives logits [1, 128, 50304]."""
    if pretrained:
        return LanguageModel(GPTNeoXForCausalLM.from_pretrained(HUB_NAME, attn_implementation="eager"))
    return LanguageModel(GPTNeoXForCausalLM(GPTNeoXConfig(**CONFIGURATION, attn_implementation="eager")))
