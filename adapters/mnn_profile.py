"""Where MNN's time goes: its callbacks around every operator, led back to ONNX nodes.

MNN names an operator after the ONNX tensor that it writes, with something appended where a node became
several. `Raster` is all of its copying: it has no operators for Reshape, Transpose, Slice or Concat, but
reads through their regions when the next operator needs the result (`<operator>_raster_<input>`).
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from adapters.mnn_convert import NODES_NAME
from adapters.onnx_nodes import CONVOLUTION as CONVOLUTION_IN_ONNX
from adapters.onnx_nodes import OriginalGraph, covering
from adapters.protocol import Profile, ProfileEntry

RASTER = "Raster"
CONVOLUTION = "Convolution"
RASTER_OF = re.compile(r"(?P<operator>.+)_raster_(?P<input>\d+)$")
CONVERSIONS = frozenset({"ConvertTensor", "Cast"})
LAYOUT_OPERATORS = frozenset(
    {"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand", "Flatten", "Concat", "Pad"}
    | {"DepthToSpace", "SpaceToDepth", "Gather", "Tile", "Identity"}
)
"""ONNX operators that MNN makes regions of."""
FOLLOWERS = frozenset({"BatchNormalization", "Relu", "Clip"})
"""What MNN's converter puts into the convolution before it, which keeps its own name."""
SOURCE = "MNN's callbacks around every operator; calling Python for them costs about 1 µs each"

Span = tuple[str, str, int]
"""Name, operator, nanoseconds."""


def profile_session(once: Callable[[Any, Any], None], inferences: int, folder: Path) -> Profile:
    """Profile `inferences` calls of `once(before, after)` after one that warms up."""
    runs, walls_ns = [], []
    for _ in range(inferences + 1):
        spans, wall_ns = _watched(once)
        runs.append(spans)
        walls_ns.append(wall_ns)
    rows = json.loads((folder / NODES_NAME).read_text(encoding="utf-8"))
    return Profile(read_spans(runs[1:], rows), int(median(walls_ns[1:])), SOURCE)


def _watched(once: Callable[[Any, Any], None]) -> tuple[list[Span], int]:
    """The spans of one inference, and from the first operator's begin to the last one's end."""
    spans: list[Span] = []
    started = [0]
    first = [0]
    clock = time.perf_counter_ns

    def before(tensors: Any, info: Any) -> bool:
        started[0] = clock()
        first[0] = first[0] or started[0]
        return True

    def after(tensors: Any, info: Any) -> bool:
        spans.append((info.getName(), info.getType(), clock() - started[0]))
        return True

    once(before, after)
    return spans, clock() - first[0]


@dataclass(frozen=True, slots=True)
class _Graph:
    """The original nodes: names as `covering` wants them, operators and tensors by name, and a tensor's
    readers.
    """

    names: OriginalGraph
    operators: Mapping[str, str]
    writes: Mapping[str, Sequence[str]]
    readers: Mapping[str, Sequence[str]]

    def carried(self, raster: str) -> tuple[str, ...]:
        """Tensors that layout operators of the network make and that a raster operator brings into place."""
        found = RASTER_OF.match(raster)
        node = self.names.named_by(found["operator"] if found else raster)
        if node is None:
            return ()
        if self.operators[node] in LAYOUT_OPERATORS:
            return tuple(tensor for tensor, writer in self.names.writer.items() if writer == node)
        reads = self.names.reads[node]
        place = int(found["input"]) if found else len(reads)
        wanted = reads[place : place + 1] or reads
        return tuple(tensor for tensor in wanted if self._layout_writes(tensor))

    def followers(self, tensors: Sequence[str]) -> int:
        """How many `FOLLOWERS` come one after another behind a tensor that nothing else reads."""
        count = 0
        readers = [self.readers.get(tensor, ()) for tensor in tensors]
        while len(readers) == 1 and len(readers[0]) == 1 and self.operators[readers[0][0]] in FOLLOWERS:
            count += 1
            readers = [self.readers.get(tensor, ()) for tensor in self.writes[readers[0][0]]]
        return count

    def _layout_writes(self, tensor: str) -> bool:
        return self.operators.get(self.names.writer.get(tensor, "")) in LAYOUT_OPERATORS


def read_spans(runs: Sequence[Sequence[Span]], rows: Sequence[Mapping[str, Any]]) -> tuple[ProfileEntry, ...]:
    """Entries of one inference: medians over runs that executed the same operators in the same order.

    `rows` are the original nodes as `mnn_convert.node_rows` gives them.
    """
    graph = _graph(rows)
    entries, written = [], []
    for spans in zip(*runs, strict=True):
        name, operator, _ = spans[0]
        tensors = graph.carried(name) if operator == RASTER else _own(name, graph.names)
        entries.append(
            ProfileEntry(
                name=name,
                operator=operator,
                duration_ns=int(median(span[2] for span in spans)),
                layout=_layout(operator, bool(tensors)),
            )
        )
        written.append(tensors)
    absorbed = [
        graph.followers(tensors) if entry.operator.startswith(CONVOLUTION) else 0
        for entry, tensors in zip(entries, written, strict=True)
    ]
    return covering(entries, written, graph.names, absorbed)


def _graph(rows: Sequence[Mapping[str, Any]]) -> _Graph:
    writer = {tensor: row["name"] for row in rows for tensor in row["writes"]}
    reads = {row["name"]: tuple(row["reads"]) for row in rows}
    readers: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for tensor in row["reads"]:
            readers[tensor].append(row["name"])
    return _Graph(
        names=OriginalGraph(
            writer,
            reads,
            frozenset(row["name"] for row in rows if row["operator"] == CONVOLUTION_IN_ONNX),
        ),
        operators={row["name"]: row["operator"] for row in rows},
        writes={row["name"]: row["writes"] for row in rows},
        readers=readers,
    )


def _own(name: str, names: OriginalGraph) -> tuple[str, ...]:
    return (name,) if name in names.writer else ()


def _layout(operator: str, carries: bool) -> Literal["", "explicit", "implicit"]:
    if operator == RASTER:
        return "explicit" if carries else "implicit"
    return "implicit" if operator in CONVERSIONS and not carries else ""
