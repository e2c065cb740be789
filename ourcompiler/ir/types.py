"""Element types and tensor types: `f32[1x64x56x56]`."""

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

import ml_dtypes
import numpy as np


class DType(Enum):
    """An element type, by the name it has in a dump."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    F64 = "f64"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of NumPy."""
        return _NUMPY[self]

    @property
    def byte_count(self) -> int:
        """Bytes of one element."""
        return int(self.numpy.itemsize)

    @property
    def is_float(self) -> bool:
        """Whether it has a fraction."""
        return self in FLOATS

    @property
    def is_signed(self) -> bool:
        """Whether it holds negative numbers."""
        return self.value[0] in "bfi" and self is not DType.BOOL


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.F16: np.dtype(np.float16),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.F32: np.dtype(np.float32),
    DType.F64: np.dtype(np.float64),
    DType.I8: np.dtype(np.int8),
    DType.I16: np.dtype(np.int16),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.U8: np.dtype(np.uint8),
    DType.U16: np.dtype(np.uint16),
    DType.U32: np.dtype(np.uint32),
    DType.U64: np.dtype(np.uint64),
    DType.BOOL: np.dtype(np.bool_),
}
_BY_NUMPY = {numpy: dtype for dtype, numpy in _NUMPY.items()}
FLOATS = frozenset({DType.F16, DType.BF16, DType.F32, DType.F64})


def dtype_of(numpy: np.dtype[Any]) -> DType | None:
    """Our type for NumPy's, or None where there is none (strings, complex numbers)."""
    return _BY_NUMPY.get(numpy)


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape; every size is known."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def element_count(self) -> int:
        """How many elements."""
        return prod(self.shape)

    @property
    def byte_count(self) -> int:
        """Bytes of a dense array."""
        return self.element_count * self.dtype.byte_count

    def __str__(self) -> str:
        return f"{self.dtype.value}[{'x'.join(map(str, self.shape))}]"


def type_of(value: np.ndarray[Any, Any]) -> TensorType:
    """The type of an array; raises ValueError for element types that the compiler has not."""
    dtype = dtype_of(value.dtype)
    if dtype is None:
        raise ValueError(f"elements of type {value.dtype}")
    return TensorType(dtype, tuple(value.shape))
