"""A PyTorch module as an ONNX graph, with all that depends on weights alone computed once."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from onnxscript.optimizer import optimize_ir
from torch import nn

from models.export.spread import weight_tensors
from models.export.traced import Traced
from models.model import InputSpec

OPSET = 20
# Weights are gathered, transposed and reshaped at export, however large they are: a graph that leaves such
# work to run time is slowed down by how it was exported, not by what the network is.
NO_LIMIT = 2**40
# How many inputs decide about the result, where not all do: a shape is known, and a type is no value.
READS = {"Shape": 0, "Size": 0, "CastLike": 1}


def trace(module: nn.Module, inputs: Sequence[InputSpec], outputs: Sequence[str]) -> Traced:
    """Export `module`, in evaluation mode, with static shapes; constants share memory with the module's."""
    examples = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with _quiet():
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=[spec.name for spec in inputs],
            output_names=list(outputs),
        )
        assert program is not None
        origins = _origins(program.model.graph)
        optimize_ir(program.model, input_size_limit=NO_LIMIT, output_size_limit=NO_LIMIT)
        program.optimize()
    values = list(program.model.graph.initializers.values())
    program.model.graph.initializers.clear()
    return Traced(
        graph=program.model_proto,
        constants={value.name: value.const_value.numpy() for value in values},
        origins=origins,
        weights=frozenset(weight_tensors(module)),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks: its own deprecations, a missing torchvision, what it did not fold."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _origins(graph: Any) -> dict[str, tuple[str, ...]]:
    """The initialisers behind every value that depends on no input of the network."""
    origins: dict[str, tuple[str, ...]] = {name: (name,) for name in graph.initializers}
    for node in graph:
        read = [value.name for value in node.inputs[: READS.get(node.op_type)] if value is not None]
        if all(name in origins for name in read):
            sources = tuple(sorted({source for name in read for source in origins[name]}))
            origins.update({value.name: sources for value in node.outputs})
    return origins
