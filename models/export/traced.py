"""What a traced network is, without PyTorch: so that all that follows can be tested where there is none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Traced:
    """A graph without its constants, the constants by name, and where these come from.

    `origins` gives the parameters and buffers of the module that a constant was computed from; one that the
    optimiser made up is not in it. `weights` are the parameters, and the running statistics of BatchNorm.
    """

    graph: ModelProto
    constants: Mapping[str, Array]
    origins: Mapping[str, tuple[str, ...]]
    weights: frozenset[str]
