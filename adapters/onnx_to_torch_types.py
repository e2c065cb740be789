"""ONNX's element types in PyTorch, and constants as tensors that share memory with the file."""

import warnings

import numpy as np
import torch

from adapters.onnx_to_torch_operation import Array, Operation

BY_NAME = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def torch_type(operation: Operation, onnx_number: int) -> torch.dtype:
    """PyTorch's element type for ONNX's number; raises `Unsupported` for one that PyTorch does not compute
    in.
    """
    import onnx

    name = onnx.helper.tensor_dtype_to_np_dtype(onnx_number).name
    if name not in BY_NAME:
        raise operation.refuse(f"to {name}, which PyTorch does not compute in")
    return BY_NAME[name]


def as_tensor(value: Array) -> torch.Tensor:
    """A tensor on the same memory, read-only files included: nothing here writes into a constant."""
    if value.dtype.name == "bfloat16":  # numpy's is a guest that PyTorch does not know
        return as_tensor(value.view(np.int16)).view(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(value))
