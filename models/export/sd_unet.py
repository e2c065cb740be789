"""The denoising UNet of Stable Diffusion 1.5 (Rombach et al., CVPR 2022)."""

from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.export.diffusion_attention import PlainAttention

OUTPUTS = ("noise",)
HUB_NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CONFIGURATION: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "down_block_types": (
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}


class Denoiser(nn.Module):
    """The UNet with a plain tensor as its result."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        unet.set_attn_processor(PlainAttention())
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Latents [1, 4, 32, 32], a step [1] and text states [1, 77, 768] to the noise [1, 4, 32, 32]."""
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


def build(pretrained: bool = False) -> nn.Module:
    """Takes latents [1, 4, 32, 32], a step int64 [1], text [1, 77, 768]; gives the noise [1, 4, 32, 32]."""
    if pretrained:
        return Denoiser(UNet2DConditionModel.from_pretrained(HUB_NAME, subfolder="unet"))
    return Denoiser(UNet2DConditionModel(**CONFIGURATION))
