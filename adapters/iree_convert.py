"""From ONNX to IREE's bytecode and machine code for this processor."""

import hashlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapters.interface import onnx_interface
from adapters.iree_weights import SCOPE, SMALLEST_ELEMENT_COUNT, separate_weights
from adapters.protocol import Converted, Unsupported

IMPORTED_NAME = "network.mlirbc"
COMPILED_NAME = "network.vmfb"
LOWEST_OPSET = 17
"""What IREE's ONNX importer asks for; older networks are brought to it."""

CHANNELS_LAST = (
    "--iree-preprocessing-pass-pipeline="
    "builtin.module(util.func(iree-preprocessing-convert-conv-to-channels-last))"
)
FIXED_FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
)
FALLBACKS: tuple[Mapping[str, str], ...] = ({}, {"data_tiling": "0"}, {"data_tiling": "0", "im2col": "0"})
"""What is given up, in this order, when the compiler fails: it cannot tile every network."""

ONNX_OPERATOR = re.compile(r"onnx\.(?P<operator>[A-Z]\w*)")
PLACE = re.compile(r'loc\("(?P<place>[^"]+)"')
ERROR = re.compile(r"error: (?P<text>.*)")
LOG_TAIL = 4000


def compile_flags(options: Mapping[str, str]) -> tuple[str, ...]:
    """The compiler's flags for an adapter's options."""
    flags = [
        *FIXED_FLAGS,
        f"--iree-opt-level={options['opt_level']}",
        f"--iree-opt-data-tiling={_boolean(options['data_tiling'])}",
        f"--iree-llvmcpu-enable-ukernels={options['ukernels']}",
        f"--iree-llvmcpu-stack-allocation-limit={options['stack_limit_bytes']}",
        f"--iree-dispatch-creation-fuse-multi-use={_boolean(options['fuse_multi_use'])}",
    ]
    if options["im2col"] == "1":
        flags.append("--iree-global-opt-use-im2col-for-convs")
    if options["channels_last"] == "1":
        flags.append(CHANNELS_LAST)
    return tuple(flags)


def _boolean(option: str) -> str:
    return "true" if option == "1" else "false"


def processor() -> str:
    """What makes this machine's code differ from another's: the processor's kind and its instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    wanted = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    first = [line for line in text.partition("\n\n")[0].splitlines() if line.partition("\t")[0] in wanted]
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(first).encode()).hexdigest()[:12]}"


def convert_network(source: Path, folder: Path, options: Mapping[str, str]) -> Converted:
    """Import and compile `source` into `folder`; what had to be given up is in the result's options.

    Raises `Unsupported` for an operator that IREE does not have, `RuntimeError` when the compiler fails.
    """
    import_network(source, folder)  # first: it says which input is dynamic
    onnx_interface(source).write(folder)
    refusals: list[str] = []
    for fallback in FALLBACKS:
        tried = {**options, **fallback}
        if refusals and all(options[key] == value for key, value in fallback.items()):
            continue
        reason = compile_network(folder, tried)
        if reason is None:
            given_up = {"given_up": refusals[0][:300]} if refusals else {}
            return Converted(COMPILED_NAME, {**tried, **given_up})
        refusals.append(reason)
    raise RuntimeError(f"iree-compile failed: {refusals[0]}")


def import_network(source: Path, folder: Path) -> None:
    """Write MLIR of the network without its large weights, and the table of these."""
    import onnx
    from iree.compiler import ir
    from iree.compiler.extras.onnx_importer import ModelInfo, OnnxImportError
    from iree.compiler.tools.import_onnx.importer_externalization_overrides import IREENodeImporter, ParamData

    proto = onnx.load(str(source), load_external_data=False)
    version = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if version < LOWEST_OPSET:
        proto = onnx.version_converter.convert_version(onnx.load(str(source)), LOWEST_OPSET)
    separate_weights(proto, source, folder)
    info = ModelInfo(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    _refuse_dynamic(info)
    parameters = ParamData(None, SMALLEST_ELEMENT_COUNT, SCOPE, str(source.parent), "", None)
    module = info.create_module(context=ir.Context()).operation
    try:
        IREENodeImporter.define_function(info.main_graph, module, parameters).import_all()
    except OnnxImportError as error:
        raise Unsupported(f"IREE's importer: {error}") from error
    with (folder / IMPORTED_NAME).open("wb") as file:
        module.write_bytecode(file)


def compile_network(folder: Path, options: Mapping[str, str]) -> str | None:
    """Compile what was imported; the reason when the compiler fails, None when it does not.

    Raises `Unsupported` for an operator that it cannot translate.
    """
    target = folder / COMPILED_NAME
    command = [compiler(), str(folder / IMPORTED_NAME), "-o", str(target), *compile_flags(options)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False
    )
    sys.stderr.write(done.stderr[-LOG_TAIL:])
    found = next(ERROR.finditer(done.stderr), None)  # it was seen to report an error and exit with 0
    if found is None and done.returncode == 0 and target.is_file() and target.stat().st_size > 0:
        return None
    reason = found["text"] if found else f"exit code {done.returncode}, no error reported"
    target.unlink(missing_ok=True)
    _refuse_operator(done.stderr, reason)
    return reason


def compiler() -> str:
    """The compiler's program in this environment."""
    from iree.compiler.tools.binaries import find_tool

    return str(find_tool("iree-compile"))


def _refuse_operator(log: str, reason: str) -> None:
    if "legalize" not in reason and "unsupported" not in reason.lower():
        return
    operator, place = ONNX_OPERATOR.search(log), PLACE.search(log)
    if operator is None:
        return
    where = f" (node {place['place']!r})" if place else ""
    raise Unsupported(f"operator {operator['operator']}{where}: IREE's compiler has no translation: {reason}")


def _refuse_dynamic(info: Any) -> None:
    for name in _dynamic_inputs(info.main_graph.input_map):
        raise Unsupported(f"input {name!r} has a dynamic shape: give its sizes with --dim")


def _dynamic_inputs(inputs: Mapping[str, Any]) -> Iterator[str]:
    for name, value in inputs.items():
        if not all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim):
            yield name
