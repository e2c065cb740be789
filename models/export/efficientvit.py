"""EfficientViT-L1 of MIT: ReLU linear attention at several scales (Cai et al., ICCV 2023)."""

from torch import nn

from models.export import timm_library

OUTPUTS = ("logits",)


def build(pretrained: bool = False) -> nn.Module:
    """Takes an image [1, 3, 224, 224]; gives 1000 class logits [1, 1000]."""
    return timm_library.create("efficientvit_l1", pretrained)
