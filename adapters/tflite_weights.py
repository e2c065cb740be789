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
        values = _map(tensor, source.parent)
        if tensor.name in initializers and values.dtype.isbuiltin and values.nbytes > SMALL_BYTES:
            mapped[tensor.name] = values
        else:
            tensor.raw_data = values.tobytes()
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.ClearField("external_data")
    return network, mapped


def _map(tensor: Any, folder: Path) -> Array:
    """The tensor's values in its external file; bytes, for an element type that numpy does not have.

    onnx's own reader would refuse a file with several hard links, which a cache may well have.
    """
    import onnx

    place = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(place.get("offset", 0)), int(place["length"])
    data = np.memmap(folder / place["location"], np.uint8, "r", offset, (length,))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.asarray(data.view(dtype).reshape(tuple(tensor.dims)) if dtype.isbuiltin else data)


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
