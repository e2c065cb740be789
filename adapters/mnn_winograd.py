"""How large MNN's Winograd tiles may be for a network: the largest whose outputs are still those of fp32.

MNN multiplies 3×3 convolutions in tiles of up to 6×6 outputs. Larger tiles need fewer multiplications and
lose more digits; how many are lost depends on how many convolutions follow one another. So it is tried.
"""

import itertools
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adapters.interface import Port, read_interface
from adapters.mnn_session import open_session
from adapters.protocol import Setting

if TYPE_CHECKING:
    from onnx import NodeProto

LARGE, SMALL, OFF = "3", "1", "0"
"""Values of `WINOGRAD_MEMORY_LEVEL`: tiles of up to 6×6, of 2×2, none."""
TRUSTED_ERROR = 5e-4
"""Half of what the fp32 class allows: the rest is for other inputs, and for the approximations of others."""
TRIAL = Setting(threads=1, precision="fp32")


def largest_accurate_level(source: Path, converted: Path, options: Mapping[str, str]) -> str:
    """The highest `WINOGRAD_MEMORY_LEVEL` at which the network `converted` from the ONNX file `source` gives
    the outputs of the next lower one, on inputs drawn here; `LARGE` without a run where nothing depends on
    it.
    """
    if not _has_candidates(source):
        return LARGE
    levels = (LARGE, SMALL, OFF)
    found = _outputs(converted, {**options, "winograd_memory_level": LARGE})
    for level, lower in itertools.pairwise(levels):
        other = _outputs(converted, {**options, "winograd_memory_level": lower})
        error = max(map(_relative_error, found, other))
        print(f"Winograd level {level} differs from level {lower} by {error:.1e}")
        if error <= TRUSTED_ERROR:
            return level
        found = other
    return OFF


def _has_candidates(source: Path) -> bool:
    from models.onnx_file import load_graph

    return any(map(_is_candidate, load_graph(source).graph.node))


def _is_candidate(node: "NodeProto") -> bool:
    """MNN's own conditions, as far as the node tells: square kernels above 1×1, neither strides nor
    dilations.
    """
    if node.op_type != "Conv":
        return False
    lists = {attribute.name: tuple(attribute.ints) for attribute in node.attribute}
    kernel = lists.get("kernel_shape", (0, 0))
    steps = {*lists.get("strides", ()), *lists.get("dilations", ())}
    return len(kernel) == 2 and len(set(kernel)) == 1 and kernel[0] != 1 and steps <= {1}


def _outputs(path: Path, options: Mapping[str, str]) -> list[NDArray[Any]]:
    session = open_session(path, options, TRIAL)
    session.feed({port.name: _drawn(port) for port in read_interface(path.parent).inputs})
    session.run()
    return list(session.outputs().values())


def _drawn(port: Port) -> NDArray[Any]:
    """Standard normal numbers; zeros for integers, which are valid as an index."""
    if not port.dtype.startswith("float"):
        return np.zeros(port.shape, port.dtype)
    generator = np.random.default_rng(zlib.crc32(port.name.encode()))
    return generator.standard_normal(port.shape).astype(port.dtype)


def _relative_error(values: NDArray[Any], expected: NDArray[Any]) -> float:
    wide = expected.astype(np.float64)
    size = float(np.linalg.norm(wide))
    difference = float(np.linalg.norm(values.astype(np.float64) - wide))
    return difference / size if size else float(difference > 0)
