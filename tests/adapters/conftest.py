"""Frameworks run inside the test process here, so what they do to it is undone after each test."""

import ctypes
import ctypes.util
from collections.abc import Iterator

import pytest

DEFAULT_ENVIRONMENT = ctypes.c_void_p(-1)  # FE_DFL_ENV of fenv.h


@pytest.fixture(autouse=True)
def _floating_point_as_it_was() -> Iterator[None]:
    """Some frameworks make the calling thread flush denormals to zero, and never undo it."""
    yield
    library = ctypes.util.find_library("m")
    if library is not None:
        ctypes.CDLL(library).fesetenv(DEFAULT_ENVIRONMENT)
