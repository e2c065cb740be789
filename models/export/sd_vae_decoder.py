"""The image decoder of Stable Diffusion 1.5's autoencoder (Rombach et al., CVPR 2022)."""

from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor, nn

from models.export.diffusion_attention import PlainAttention

OUTPUTS = ("image",)
HUB_NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CONFIGURATION: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


class Decoder(nn.Module):
    """The half of the autoencoder that turns latents into an image."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        autoencoder.set_attn_processor(PlainAttention())
        self.post_quant_conv = autoencoder.post_quant_conv
        self.decoder = autoencoder.decoder

    def forward(self, latent: Tensor) -> Tensor:
        """Latents [1, 4, 32, 32] to an image [1, 3, 256, 256]."""
        return self.decoder(self.post_quant_conv(latent))


def build(pretrained: bool = False) -> nn.Module:
    """Takes latents [1, 4, 32, 32]; gives an image [1, 3, 256, 256] with values around -1 to 1."""
    if pretrained:
        return Decoder(AutoencoderKL.from_pretrained(HUB_NAME, subfolder="vae"))
    return Decoder(AutoencoderKL(**CONFIGURATION))
