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
        _widen_position_biases(network)
        settle_batch_norms(network, torch.randn(1, 3, 224, 224))
    return network


def _widen_position_biases(network: nn.Module) -> None:
    """Draw the tables that windowed attention adds to its scores with a deviation of 1, not timm's 0.02.

    With that, a network that lost one would give the same outputs within 1e-4.
    """
    for name, table in network.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(table)
