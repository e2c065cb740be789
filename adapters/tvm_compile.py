"""The whole way from ONNX to a library, with the weights in a file beside it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters.protocol import Unsupported
from adapters.tvm_database import NONE, Record, kernel_keys
from adapters.tvm_import import import_network
from adapters.tvm_legalize import fold_layouts, legalizations
from adapters.tvm_machine import VectorUnit
from adapters.tvm_math import use_vector_math
from adapters.tvm_provenance import kernels_of
from adapters.tvm_schedule import schedule_kernels

LIBRARY = "network.so"
WEIGHTS = "weights.bin"
DESCRIPTION = "network.json"
KEPT_IN_LIBRARY_BYTES = 256
ALIGNMENT_BYTES = 64
CHANNELS_LAST = {"relax.nn.conv2d": ["NHWC", "OHWI"], "relax.nn.conv1d": ["NWC", "OWI"]}


@dataclass(frozen=True, slots=True)
class Network:
    """A network made of fused kernels, and which nodes each covers, in order of execution.

    Of its different kernels a tuning session measured some, and schedules of `kernels_tuned` were faster.
    """

    module: Any
    kernels: list[dict[str, Any]]
    kernels_measured: int = 0
    kernels_tuned: int = 0

    @property
    def tuning(self) -> str:
        """What tuning did, in words."""
        return f"{self.kernels_tuned} kernels of {self.kernels_measured} that were tried"


def fused(source: Path, target: Any, unit: VectorUnit, records: Mapping[str, Record] = NONE) -> Network:
    """The ONNX file as kernels in our own lowering, with tuned schedules from `records` and our own."""
    network = unscheduled(source, target, unit)
    use_vector_math()
    found = (
        [row for row in map(records.get, kernel_keys(network.module)) if row is not None] if records else []
    )
    with target:
        return replace(
            network,
            module=schedule_kernels(network.module, unit, records),
            kernels_measured=len(found),
            kernels_tuned=sum(row.trace is not None for row in found),
        )


def unscheduled(source: Path, target: Any, unit: VectorUnit) -> Network:
    """The ONNX file as kernels in our own lowering, loops as written."""
    from tvm import relax

    passes = relax.transform
    module, nodes = import_network(source)
    lowering = [
        passes.DecomposeOpsForInference(),
        passes.CanonicalizeBindings(),
        passes.ConvertLayout(CHANNELS_LAST),
        fold_layouts,
        passes.CanonicalizeBindings(),
        relax.backend.DispatchSortScan(),
        passes.LegalizeOps(legalizations(unit)),
        passes.DeadCodeElimination(),
        passes.AnnotateTIROpPattern(),
        passes.FoldConstant(),
        passes.DeadCodeElimination(),
    ]
    with target:
        plain = _through(module, lowering)
        grouped = passes.FuseOps()(plain)
        kernels = kernels_of(plain, grouped, nodes)
        return Network(passes.FuseTIR()(grouped), kernels)


def fused_by_default(source: Path, target: Any) -> Network:
    """The ONNX file as kernels of TVM's own CPU pipeline, which schedules none of them."""
    from tvm.relax.backend.cpu_generic import pipeline

    module, nodes = import_network(source)
    with target:
        *lowering, fuse, into_kernels = pipeline.legalize_passes(target)
        plain = _through(module, [*pipeline.library_dispatch_passes(target), *lowering])
        grouped = fuse(plain)
        return Network(into_kernels(grouped), kernels_of(plain, grouped, nodes))


def build(network: Network, target: Any, folder: Path) -> None:
    """Write the library, the weights and the description of scheduled kernels into the folder."""
    import tvm
    from tvm import relax

    with target:
        module, weights = detach_weights(network.module)
        executable = tvm.compile(module, target=target, relax_pipeline=_to_virtual_machine(relax.transform))
    _link(executable, folder / LIBRARY)
    rows = write_weights(weights, folder / WEIGHTS)
    document = {"weights": rows, "kernels": network.kernels}
    (folder / DESCRIPTION).write_text(json.dumps(document) + "\n", encoding="utf-8")


def _through(module: Any, steps: list[Callable[[Any], Any]]) -> Any:
    for step in steps:
        module = step(module)
    return module


def _to_virtual_machine(passes: Any) -> Any:
    """TVM's own last steps, without its first ones, which would fuse again what is scheduled."""
    import tvm

    return tvm.transform.Sequential(
        [
            passes.RewriteDataflowReshape(),
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
            passes.LowerAllocTensor(),
            passes.KillAfterLastUse(),
            passes.LowerRuntimeBuiltin(),
            passes.ComputePrimValue(),
            passes.VMShapeLower(),
            passes.AttachGlobalSymbol(),
        ]
    )


def detach_weights(module: Any) -> tuple[Any, list[Any]]:
    """Make parameters of `main` out of the large constants; they follow the network's inputs, in this order.

    A library with the weights inside would need several copies of them while it is made and loaded.
    """
    from tvm import relax

    found: dict[int, Any] = {}
    weights: list[Any] = []

    @relax.expr_functor.mutator
    class Detach(relax.PyExprMutator):  # type: ignore[misc]
        def visit_generic_const_(self, constant: Any) -> Any:
            values = np.from_dlpack(constant.value)
            if values.nbytes < KEPT_IN_LIBRARY_BYTES:
                return constant
            if values.ctypes.data not in found:
                shape = [int(size) for size in constant.ty.shape]
                parameter = relax.Var(f"weight{len(weights)}", relax.TensorType(shape, str(values.dtype)))
                found[values.ctypes.data] = parameter
                weights.append(constant.value)
            return found[values.ctypes.data]

    main = module["main"]
    changed = Detach(module).visit_expr(main)
    inputs = list(changed.params)
    parameters = [*inputs, *found.values()]
    module["main"] = relax.Function(
        parameters, changed.body, changed.ret_ty, changed.is_pure, main.attrs
    ).with_attr("num_input", len(inputs))
    return module, weights


def write_weights(weights: list[Any], path: Path) -> list[dict[str, Any]]:
    """Write the tensors one after the other, aligned; where each lies is the result."""
    rows = []
    with path.open("wb") as file:
        for weight in weights:
            values = np.from_dlpack(weight)
            file.write(b"\0" * (-file.tell() % ALIGNMENT_BYTES))
            rows.append({"offset": file.tell(), "shape": list(values.shape), "dtype": str(values.dtype)})
            file.write(np.ascontiguousarray(values).data.cast("B"))
    return rows


def _link(executable: Any, path: Path) -> None:
    try:
        executable.export_library(str(path))
    except (RuntimeError, ValueError) as fault:
        raise Unsupported(
            f"TVM links its kernels with a C compiler, which failed ({str(fault)[:200]}): install gcc"
        ) from fault
