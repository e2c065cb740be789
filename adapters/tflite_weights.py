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
    from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

    from models.onnx_external import EXTERNAL, all_tensors, tensor_byte_count

    network = onnx.load(source, load_external_data=False)
    initializers = {tensor.name for tensor in network.graph.initializer}
    mapped: dict[str, Array] = {}
    for tensor in all_tensors(network):
        if tensor.data_location != EXTERNAL:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if tensor.name in initializers and dtype.isbuiltin and tensor_byte_count(tensor) > SMALL_BYTES:
            info = ExternalDataInfo(tensor)
            place = source.parent / info.location
            shape = tuple(tensor.dims)
            mapped[tensor.name] = np.asarray(np.memmap(place, dtype, "r", int(info.offset or 0), shape))
        else:
            load_external_data_for_tensor(tensor, str(source.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
    return network, mapped


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
