"""LiteRT's profile in the common schema: which ONNX nodes stand behind what XNNPACK says that it ran.

LiteRT tells the index of an operator that it runs itself. XNNPACK, which runs nearly all, only tells the kind
of each of its own operators in order of execution. LiteRT's way to cut the file into parts for XNNPACK and
parts for itself gives that order; XNNPACK then merges, drops (reshapes) or doubles (copies) operators, so
both sequences are aligned by kind, as in a diff.
"""

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.protocol import Profile, ProfileEntry
from adapters.tflite_library import Event

RUNTIME_EVENT, OPERATOR_EVENT, KERNEL_EVENT = 1, 2, 8
WHOLE_RUN = "Invoke"
DELEGATE = "TfLiteXNNPackDelegate"
NEW_OPERATOR, SAME_OPERATOR = 2, 1

LAYOUT_TYPES = frozenset(
    {
        "TRANSPOSE",
        "RESHAPE",
        "EXPAND_DIMS",
        "SQUEEZE",
        "SLICE",
        "STRIDED_SLICE",
        "SPLIT",
        "SPLIT_V",
        "CONCATENATION",
    }
    | {"PACK", "UNPACK", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "PAD", "PADV2", "TILE", "BROADCAST_TO", "GATHER"}
)
LAYOUT_NODES = frozenset(
    {"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand", "Flatten", "Concat"}
    | {"DepthToSpace", "SpaceToDepth", "Gather", "Pad", "Tile"}
)
TYPES_OF_KERNEL: Mapping[str, frozenset[str]] = {
    "Convolution": frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"}),
    "Deconvolution": frozenset({"TRANSPOSE_CONV"}),
    "Fully Connected": frozenset({"FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D"}),  # 1×1 convolutions
    "Dynamic Fully Connected": frozenset({"FULLY_CONNECTED", "BATCH_MATMUL"}),
    "Batch Matrix Multiply": frozenset({"BATCH_MATMUL"}),
    "Add": frozenset({"ADD"}),
    "Subtract": frozenset({"SUB"}),
    "Multiply": frozenset({"MUL"}),
    "Divide": frozenset({"DIV"}),
    "Maximum": frozenset({"MAXIMUM", "RELU", "RELU_0_TO_1"}),
    "Minimum": frozenset({"MINIMUM"}),
    "Power": frozenset({"POW"}),
    "Squared Difference": frozenset({"SQUARED_DIFFERENCE"}),
    "Mean": frozenset({"MEAN", "AVERAGE_POOL_2D"}),
    "Mean Squared": frozenset({"MEAN"}),
    "Sum": frozenset({"SUM"}),
    "Sum Squared": frozenset({"SUM"}),
    "Max": frozenset({"REDUCE_MAX"}),
    "Min": frozenset({"REDUCE_MIN"}),
    "Reduce Max": frozenset({"REDUCE_MAX"}),
    "Reduce Min": frozenset({"REDUCE_MIN"}),
    "Square Root": frozenset({"SQRT"}),
    "Reciprocal Square Root": frozenset({"RSQRT"}),
    "Square": frozenset({"SQUARE", "MUL"}),  # of a value with itself
    "Normalize": frozenset({"SUM"}),  # a sum in which XNNPACK merged the squares
    "Exp": frozenset({"EXP"}),
    "Log": frozenset({"LOG"}),
    "Abs": frozenset({"ABS"}),
    "Negate": frozenset({"NEG"}),
    "Sine": frozenset({"SIN"}),
    "Cosine": frozenset({"COS"}),
    "GELU": frozenset({"GELU"}),
    "Approximate GELU": frozenset({"GELU"}),
    "ELU": frozenset({"ELU"}),
    "HardSwish": frozenset({"HARD_SWISH"}),
    "Leaky ReLU": frozenset({"LEAKY_RELU"}),
    "Clamp": frozenset({"RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ADD", "SUB", "MUL", "DIV"}),
    "Sigmoid": frozenset({"LOGISTIC"}),
    "Tanh": frozenset({"TANH"}),
    "PReLU": frozenset({"PRELU"}),
    "Softmax": frozenset({"SOFTMAX"}),
    "Max Pooling": frozenset({"MAX_POOL_2D"}),
    "Average Pooling": frozenset({"AVERAGE_POOL_2D"}),
    "Resize Bilinear": frozenset({"RESIZE_BILINEAR"}),
    "Constant Pad": frozenset({"PAD", "PADV2"}),
    "Space To Depth": frozenset({"SPACE_TO_DEPTH"}),
    "Depth To Space": frozenset({"DEPTH_TO_SPACE"}),
    "Transpose": frozenset({"TRANSPOSE"}),
    "Slice": frozenset({"SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V"}),
    "Static Reshape": frozenset({"RESHAPE", "EXPAND_DIMS", "SQUEEZE"}),
    "Static Slice": frozenset({"SLICE", "STRIDED_SLICE"}),
    "Copy": frozenset({"CONCATENATION", "SPLIT", "SPLIT_V", "RESHAPE", "SLICE"}),
    "Convert": frozenset({"CAST", "QUANTIZE", "DEQUANTIZE"}),
    "Broadcast": frozenset({"BROADCAST_TO"}),
}
"""The types of .tflite operators that become an XNNPACK operator of each kind."""
REPEATED = frozenset({"Copy", "Slice", "Static Slice", "Clamp"})
"""Kinds that may follow for the same .tflite operator: a copy for each input of a concatenation, the
activation that is part of an addition.
"""

Rows = Sequence[Mapping[str, Any]]
Matrix = NDArray[np.int16]


def read_profile(runs: Sequence[Sequence[Event]], wall_ns: Sequence[int], rows: Rows) -> Profile:
    """The profile of several inferences: medians over them.

    `wall_ns` are the wall times of the inferences, `rows` the operators of the .tflite file
    (`operators.json`). All inferences run the same operators, so their events correspond by position.
    """
    timed = [[event for event in run if _is_timed(event)] for run in runs]
    events = timed[0]
    if any(len(run) != len(events) for run in timed):
        raise RuntimeError("LiteRT's profiler lost events of an inference: profile again")
    own = {event.index for event in events if event.kind == OPERATOR_EVENT}
    order = execution_order(rows, own)
    aligned = align(events, [rows[index] for index in order], order)
    found = [None if place is None else order[place] for place in aligned]
    entries = tuple(
        _entry(event, 1000 * int(median(run[position].elapsed_us for run in timed)), rows, found[position])
        for position, event in enumerate(events)
    )
    source = "LiteRT's own profiler, in whole µs an operator; ONNX nodes by aligning XNNPACK's operators"
    return Profile(entries, int(median(wall_ns)), source)


def _is_timed(event: Event) -> bool:
    """Whether an event is a part of the inference, not the whole of it and not LiteRT's own statistics."""
    if event.kind == RUNTIME_EVENT:
        return event.tag != WHOLE_RUN
    return event.kind == KERNEL_EVENT or (event.kind == OPERATOR_EVENT and event.tag != DELEGATE)


def _entry(event: Event, duration_ns: int, rows: Rows, row_index: int | None) -> ProfileEntry:
    if row_index is None:
        return ProfileEntry(event.tag, kernel_kind(event), duration_ns)
    row = rows[row_index]
    return ProfileEntry(event.tag, row["type"], duration_ns, tuple(row["nodes"]), _layout(row))


def _layout(row: Mapping[str, Any]) -> Literal["", "explicit", "implicit"]:
    """A layout operator is the network's own when it stands for one of its layout operators."""
    if row["type"] not in LAYOUT_TYPES:
        return ""
    operators = set(row["nodes"].values())
    if operators & LAYOUT_NODES:
        return "explicit"
    return "" if row["type"] == "GATHER" and operators else "implicit"


def kernel_kind(event: Event) -> str:
    """`Add` of `Add (ND)`: what XNNPACK calls the operator, without layout, dtype and kernel."""
    return event.tag.partition(" (")[0]


def execution_order(rows: Rows, own: Collection[int]) -> list[int]:
    """Indices of `rows` as LiteRT runs them when it runs those of `own` itself and a delegate the others.

    As TFLite's graph partitioning does it: each part takes every operator of one side whose inputs are there.
    """
    made = {tensor for row in rows for tensor in row["outputs"]}
    order: list[int] = []
    left = list(range(len(rows)))
    while left:
        side: bool | None = None
        later = []
        for index in left:
            is_own = index in own
            if side in (None, is_own) and made.isdisjoint(rows[index]["inputs"]):
                side = is_own
                order.append(index)
                made.difference_update(rows[index]["outputs"])
            else:
                later.append(index)
        if len(later) == len(left):
            raise RuntimeError("operators.json is not in topological order: convert the network again")
        left = later
    return order


def align(events: Sequence[Event], rows: Rows, indices: Sequence[int]) -> list[int | None]:
    """The place in `rows` of the operator behind each event, None where no one fits.

    `indices` are the operators' indices in the file. The alignment with the most matches, in which both
    sequences keep their order. Memory is two bytes for every pair of an event and an operator.
    """
    types = np.array([row["type"] for row in rows])
    first = np.zeros((len(rows), len(events)), dtype=bool)
    for position, event in enumerate(events):
        first[:, position] = _fits(event, types, np.asarray(indices))
    again = first & np.array([kernel_kind(event) in REPEATED for event in events], dtype=bool)
    scores = np.zeros((len(rows) + 1, len(events) + 1), dtype=np.int16)
    for index in range(len(rows)):
        _next_scores(scores[index], first[index], again[index], scores[index + 1])
    return _trace(scores, first, again)


def _fits(event: Event, types: NDArray[Any], indices: NDArray[Any]) -> Any:
    if event.kind == OPERATOR_EVENT:
        return indices == event.index
    fitting = TYPES_OF_KERNEL.get(kernel_kind(event), frozenset()) if event.kind == KERNEL_EVENT else ()
    return np.isin(types, list(fitting))


def _next_scores(above: Matrix, first: NDArray[np.bool_], again: NDArray[np.bool_], into: Matrix) -> None:
    """One more operator: it is left out, takes one event, or takes several of a kind that repeats."""
    into[:] = above
    into[1:] = np.maximum(above[1:], above[:-1] + NEW_OPERATOR * first)
    gains = np.concatenate([[0], np.cumsum(SAME_OPERATOR * again)])
    into[:] = np.maximum.accumulate(into - gains) + gains


def _trace(scores: Matrix, first: NDArray[np.bool_], again: NDArray[np.bool_]) -> list[int | None]:
    """Walk the table of scores back from its end."""
    found: list[int | None] = [None] * first.shape[1]
    row, position = first.shape
    while row and position:
        score = scores[row, position]
        if score == scores[row - 1, position]:
            row -= 1
        elif first[row - 1, position - 1] and score == scores[row - 1, position - 1] + NEW_OPERATOR:
            row, position = row - 1, position - 1
            found[position] = row
        else:
            position -= 1
            if again[row - 1, position]:
                found[position] = row - 1
    return found
