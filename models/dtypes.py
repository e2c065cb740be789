"""Element types of tensors: their name here, in ONNX, and their size."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ElementType:
    """One element type: numpy's `name`, ONNX's `TensorProto.DataType` number, bytes an element."""

    name: str
    onnx_number: int
    byte_count: int
    is_float: bool = False


ELEMENT_TYPES = {
    row.name: row
    for row in (
        ElementType("float32", 1, 4, is_float=True),
        ElementType("float16", 10, 2, is_float=True),
        ElementType("float64", 11, 8, is_float=True),
        ElementType("int8", 3, 1),
        ElementType("int16", 5, 2),
        ElementType("int32", 6, 4),
        ElementType("int64", 7, 8),
        ElementType("uint8", 2, 1),
        ElementType("uint16", 4, 2),
        ElementType("uint32", 12, 4),
        ElementType("uint64", 13, 8),
        ElementType("bool", 9, 1),
    )
}

BY_ONNX_NUMBER = {row.onnx_number: row for row in ELEMENT_TYPES.values()}
