"""One door to timm: imported without torchvision, with attention spelled out as matmul, softmax, matmul."""

from typing import Any

import torch
from torch import nn

from models.export.batch_norm import settle_batch_norms
from models.export.torchvision_stub import torchvision_stub


def create(architecture: str, pretrained: bool, **options: Any) -> nn.Module:
    """A timm network for 224x224 images by its timm name, in the form that exports to a clean graph.

    Fused attention is off so that the graph holds the three operators that every framework knows.
    """
    with torchvision_stub():
        import timm

        timm.layers.set_fused_attn(False)
        with timm.layers.set_exportable(True):
            network = timm.create_model(architecture, pretrained=pretrained, **options)
    if not pretrained:
        settle_batch_norms(network, torch.randn(1, 3, 224, 224))
    return network
