"""The whole way from ONNX to a library, with the weights in a file beside it."""

from pathlib import Path
from typing import Any

import numpy as np

from adapters.tvm_import import import_network
from adapters.tvm_legalize import fold_layouts, legalizations
from adapters.tvm_machine import host_target, vector_unit
from adapters.tvm_schedule import schedule_kernels


def lowered(module: Any, target: Any) -> Any:
    """The network as fused, scheduled kernels."""
    import tvm
    from tvm import relax

    passes = relax.transform
    unit = vector_unit(target)
    steps = [
        passes.DecomposeOpsForInference(),
        passes.CanonicalizeBindings(),
        passes.ConvertLayout({"relax.nn.conv2d": ["NHWC", "OHWI"], "relax.nn.conv1d": ["NWC", "OWI"]}),
        fold_layouts,
        passes.CanonicalizeBindings(),
        passes.LegalizeOps(legalizations(unit)),
        passes.DeadCodeElimination(),
        passes.AnnotateTIROpPattern(),
        passes.FoldConstant(),
        passes.FuseOps(),
        passes.FuseTIR(),
        passes.DeadCodeElimination(),
    ]
    with target:
        for step in steps:
            module = step(module)
        return schedule_kernels(module, target)
