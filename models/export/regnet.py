"""RegNetY-3.2GF: groups of 24 channels, squeeze-and-excitation (Radosavovic et al., CVPR 2020)."""

from torch import nn

from models.export import timm_library

OUTPUTS = ("logits",)


def build(pretrained: bool = False) -> nn.Module:
    """Takes an image [1, 3, 224, 224]; gives 1000 class logits [1, 1000]."""
    # A zero scale at the end of every residual branch would hide that branch from the outputs.
    return timm_library.create("regnety_032", pretrained, zero_init_last=False)
