"""ViT-B/16: 12 plain encoder layers over 196 patches and a class token (Dosovitskiy et al., ICLR 2021)."""

from torch import nn

from models.export import timm_library

OUTPUTS = ("logits",)


def build(pretrained: bool = False) -> nn.Module:
    """Takes an image [1, 3, 224, 224]; gives 1000 class logits [1, 1000]."""
    network = timm_library.create("vit_base_patch16_224", pretrained)
    if not pretrained:
        # timm draws it with a deviation of 1e-6: in the outputs that would be nothing.
        nn.init.normal_(network.cls_token, std=0.02)
    return network
