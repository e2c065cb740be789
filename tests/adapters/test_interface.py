"""Names, layouts and dtypes of a converted network: to the framework's and back, without loss."""

from pathlib import Path

import numpy as np
import pytest

from adapters.interface import Interface, Port, onnx_interface, read_interface
from adapters.protocol import Unsupported
from models.tiny import write_convolutions

NHWC = (0, 2, 3, 1)
IMAGE = Port("x", (1, 3, 4, 5), "float32", "serving_x:0", "float32", NHWC)
IDS = Port("ids", (1, 7), "int64", "0", "int32")


@pytest.mark.parametrize("port", [IMAGE, IDS], ids=lambda port: port.name)
def test_there_and_back_is_the_same(port: Port) -> None:
    value = np.arange(np.prod(port.shape), dtype=port.dtype).reshape(port.shape)
    native = port.to_native(value)
    assert native.dtype == port.native_dtype
    assert native.flags.c_contiguous
    back = port.to_onnx(native)
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(back, value)


def test_channels_go_last() -> None:
    value = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    native = IMAGE.to_native(value)
    assert native.shape == (1, 4, 5, 3)
    assert native[0, 2, 1, 0] == value[0, 0, 2, 1]


def test_what_comes_back_is_a_copy() -> None:
    native = np.zeros((1, 7), dtype=np.int64)
    back = Port("ids", (1, 7), "int64", "0", "int64").to_onnx(native)
    native[:] = 1
    assert not back.any()


def test_a_flat_output_is_shaped(tmp_path: Path) -> None:
    value = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    np.testing.assert_array_equal(IMAGE.to_onnx(IMAGE.to_native(value).ravel()), value)


def test_another_number_of_elements_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"output 'x' has \[59\] elements, expected \[1, 4, 5, 3\]"):
        IMAGE.to_onnx(np.zeros(59, dtype=np.float32))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    interface = Interface((IMAGE, IDS), (IMAGE,))
    interface.write(tmp_path)
    assert read_interface(tmp_path) == interface


def test_an_onnx_file_is_its_own_interface(tmp_path: Path) -> None:
    write_convolutions(tmp_path / "net.onnx", channels=4, pixels=8, layers=1)
    interface = onnx_interface(tmp_path / "net.onnx")
    assert interface.inputs == (Port("x", (1, 4, 8, 8), "float32", "x", "float32"),)
    assert interface.outputs == (Port("y", (1, 4, 8, 8), "float32", "y", "float32"),)
