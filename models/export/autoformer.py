"""AutoFormer: the tiny network that S3 found, a Swin-like hierarchy with one 14 × 14 window in stage three.

Chen et al., "Searching the Search Space of Vision Transformer" (S3, also called AutoFormerV2), NeurIPS
2021, arXiv 2111.14725; it follows "AutoFormer", ICCV 2021, arXiv 2107.00651. SmartMem's Table 7 cites
both for one row.

The choice: S3-T. Depths 2, 2, 6, 2; widths 96, 192, 384, 768; heads 3, 6, 12, 24; windows 7, 7, 14, 7;
MLP ratio 4 throughout, as published with the checkpoint. It has the row's 4.7 GMACs; the papers' other
networks do not come near the row's parameters: S3-S has 50 M, S3-B 71 M, AutoFormer-S 22.9 M,
AutoFormer-B 54 M.

Assumption: the row's 31.2 M parameters are S3-T's 28.3 M with every relative position bias gathered from
its table to [heads, tokens, tokens], as constant folding leaves it in a graph for inference: the six
windows of 14 × 14 then hold 12 · 196 · 196 values each. So folded, as the pinned graph is, it has
31.2 M.
"""

from torch import nn

from models.export import timm_library

OUTPUTS = ("logits",)


def build(pretrained: bool = False) -> nn.Module:
    """Takes an image [1, 3, 224, 224]; gives 1000 class logits [1, 1000]."""
    return timm_library.create("swin_s3_tiny_224", pretrained)
