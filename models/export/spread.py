"""Give parameters that start out all equal a small spread, so that every one of them reaches the outputs.

Initialisation leaves biases at 0 and scales of normalisations at 1. Kept so, a framework may drop `x + 0` and
`x * 1`, the exporter merges tensors with equal content, and no comparison of outputs can see a lost bias.
In a trained network none of that happens. With a spread of 0.1, smaller than what training gives, losing any
one of them changes the outputs by more than 1e-3 nearly everywhere, which is what two frameworks may differ.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SPREAD = 0.1


def weight_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Everything training would change, by name: parameters, and the running statistics of BatchNorm."""
    weights: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    for path, child in module.named_modules():
        if isinstance(child, _BatchNorm):
            prefix = f"{path}." if path else ""
            for statistic in ("running_mean", "running_var"):
                weights[prefix + statistic] = getattr(child, statistic)
    return weights


@torch.no_grad()
def spread_equal_weights(module: nn.Module) -> None:
    """Add noise to every weight whose elements are all equal, of deviation 0.1, or 10 % where they are not 0.

    Single numbers stay: they are seen as they are.
    """
    for tensor in weight_tensors(module).values():
        flat = tensor.flatten()
        if flat.numel() > 1 and bool((flat == flat[0]).all()):
            scale = abs(float(flat[0])) or 1.0  # relative, so that a variance stays positive
            tensor.add_(torch.randn_like(tensor), alpha=SPREAD * scale)
