"""Swin-T: windows of 7x7 tokens, every second block shifted by 3 (Liu et al., ICCV 2021)."""

from torch import nn

from models.export import timm_library

OUTPUTS = ("logits",)


def build(pretrained: bool = False) -> nn.Module:
    """Takes an image [1, 3, 224, 224]; gives 1000 class logits [1, 1000]."""
    return timm_library.create("swin_tiny_patch4_window7_224", pretrained)
