"""The text encoder of Stable Diffusion 1.5: the text half of CLIP ViT-L/14 (Rombach et al., CVPR 2022)."""

from typing import Any

from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

OUTPUTS = ("last_hidden_state",)
HUB_NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CONFIGURATION: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}


class TextEncoder(nn.Module):
    """What the diffusion pipeline reads: the last hidden state alone."""

    def __init__(self, clip: CLIPTextModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token numbers [1, 77] to hidden states [1, 77, 768]."""
        return self.clip(input_ids=input_ids).last_hidden_state


def build(pretrained: bool = False) -> nn.Module:
    """Takes token numbers int64 [1, 77]; gives hidden states [1, 77, 768]."""
    if pretrained:
        return TextEncoder(
            CLIPTextModel.from_pretrained(HUB_NAME, subfolder="text_encoder", attn_implementation="eager")
        )
    return TextEncoder(CLIPTextModel(CLIPTextConfig(**CONFIGURATION, attn_implementation="eager")))
