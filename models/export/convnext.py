"""ConvNeXt-T: depthwise 7x7, LayerNorm, an inverted bottleneck and a layer scale (Liu et al., CVPR 2022)."""

from torch import nn

from models.export import timm_library

OUTPUTS = ("logits",)


def build(pretrained: bool = False) -> nn.Module:
    """Takes an image [1, 3, 224, 224]; gives 1000 class logits [1, 1000]."""
    # timm begins with a layer scale of 1e-6, with which the outputs would not show whether a block was run.
    # "fast" pooling is a mean; the default exports as a mean and a gather of each of its elements.
    return timm_library.create("convnext_tiny", pretrained, ls_init_value=0.5, global_pool="fast")
