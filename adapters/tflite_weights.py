"""An ONNX network whose large weights stay on the disk while a converter works on it.

onnx2tf copies the network that it is given, and its weights again when it reads them; mapped from the file
they take memory only where onnx2tf changes them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL_BYTES = 1024
"""Shapes and scalars are read: shape inference looks at them."""

NUMPYS_OWN = 1
"""`dtype.isbuiltin` of numpy's own types; bfloat16 and packed int4 come from a package."""

Array = NDArray[Any]


def load_mapped(source: Path) -> tuple[Any, dict[str, Array]]:
    """The network of the ONNX file `source`, and its larger external weights as read-only mapped arrays.

    Weights that lie inside the ONNX file stay there.
    """
    import onnx

    from models.onnx_external import EXTERNAL, all_tensors

    network = onnx.load(source, load_external_data=False)
    initializers = {tensor.name for tensor in network.graph.initializer}
    mapped: dict[str, Array] = {}
    for tensor in all_tensors(network):
        if tensor.data_location != EXTERNAL:
            continue
        data = _map(tensor, source.parent)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if tensor.name in initializers and dtype.isbuiltin == NUMPYS_OWN and data.nbytes > SMALL_BYTES:
            mapped[tensor.name] = np.asarray(data.view(dtype).reshape(tuple(tensor.dims)))
        else:
            tensor.raw_data = data.tobytes()
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.ClearField("external_data")
    return network, mapped


def _map(tensor: Any, folder: Path) -> Array:
    """The tensor's bytes in its external file, mapped.

    onnx's own reader would refuse a file with several hard links, which a cache may well have.
    """
    place = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(place.get("offset", 0)), int(place["length"])
    return np.memmap(folder / place["location"], np.uint8, "r", offset, (length,))


@contextmanager
def reading_mapped(mapped: Mapping[str, Array]) -> Iterator[None]:
    """Within this, `onnx.numpy_helper.to_array` answers with the mapped weights."""
    from onnx import numpy_helper

    original = numpy_helper.to_array

    def to_array(tensor: Any, base_dir: str = "") -> Any:
        if tensor.data_location and tensor.name in mapped:
            return mapped[tensor.name]
        return original(tensor, base_dir)

    numpy_helper.to_array = to_array
    try:
        yield
    finally:
        numpy_helper.to_array = original
