"""ExecuTorch's event trace (ETDump) as a profile: its own kernels, and XNNPACK's operators inside delegates,
each with the ONNX nodes that it covers.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from statistics import median
from typing import Any, Literal

from adapters.executorch_names import Instruction, Part
from adapters.protocol import Profile, ProfileEntry

Layout = Literal["", "explicit", "implicit"]

EXECUTE = "Execute"
KERNEL_CALL = "OPERATOR_CALL"
DELEGATE_CALL = "DELEGATE_CALL"
CALLS = (KERNEL_CALL, DELEGATE_CALL)
SOURCE = "ExecuTorch's event tracer; XNNPACK's operators as its own runtime times them, to the microsecond"

EVENT_KINDS = (
    ("Convolution", "product"),
    ("Deconvolution", "product"),
    ("Fully Connected", "product"),
    ("Batch Matrix Multiply", "batch product"),
    ("Transpose", "transpose"),
    ("Reshape", "reshape"),
    ("Slice", "slice"),
    ("Constant Pad", "pad"),
    ("Copy", "concatenate"),
    ("Max Pooling", "max pooling"),
    ("Average Pooling", "average"),
    ("Mean", "average"),
    ("Resize Bilinear", "resize"),
    ("Clamp", "clamp"),
    ("GELU", "gelu"),
    ("Softmax", "softmax"),
    ("Multiply", "multiply"),
    ("Subtract", "subtract"),
    ("Add", "add"),
    ("Divide", "divide"),
    ("Sigmoid", "sigmoid"),
    ("Tanh", "tanh"),
    ("Negate", "negate"),
    ("Reciprocal", "reciprocal"),
    ("Square Root", "root"),
    ("Square", "square"),
)
"""What XNNPACK's profiler calls an operator, by a part of its name; the first that fits."""

PART_KINDS = (
    ("Conv", "product"),
    ("FullyConnected", "product"),
    ("BatchMatrixMultiply", "batch product"),
    ("Transpose", "transpose"),
    ("Reshape", "reshape"),
    ("Slice", "slice"),
    ("Pad", "pad"),
    ("Concatenate", "concatenate"),
    ("MaxPooling", "max pooling"),
    ("AvgPooling", "average"),
    ("GlobalAvgPooling", "average"),
    ("ResizeBilinear", "resize"),
    ("Clamp", "clamp"),
    ("Gelu", "gelu"),
    ("Softmax", "softmax"),
    ("Multiply", "multiply"),
    ("Subtract", "subtract"),
    ("Add", "add"),
    ("Div", "divide"),
    ("Sigmoid", "sigmoid"),
    ("Tanh", "tanh"),
    ("Negate", "negate"),
    ("ReciprocalSquareRoot", "reciprocal"),
    ("SquareRoot", "root"),
    ("Square", "square"),
)
"""The same for the operators of the graph that was written for XNNPACK."""

MOVING_KINDS = frozenset({"transpose", "reshape", "slice", "pad", "concatenate"})
MOVING_KERNELS = frozenset(
    {"permute_copy", "view_copy", "slice_copy", "cat", "expand_copy", "constant_pad_nd", "index_select"}
    | {"embedding", "clone", "_clone_dim_order", "_to_dim_order_copy", "index", "repeat", "unsqueeze_copy"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something timed inside one instruction: `operator` without its running number."""

    instruction: int
    name: str
    operator: str
    duration_ns: int


def read_etdump(program: Any, instructions: Mapping[int, Instruction], wall_ns: Sequence[int]) -> Profile:
    """The last `len(wall_ns)` inferences of a program that was loaded with its event tracer."""
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    with tempfile.TemporaryDirectory(prefix="etdump-") as folder:
        path = Path(folder) / "trace.etdump"
        program.write_etdump_result_to_file(str(path))
        dump = deserialize_from_etdump_flatcc(path.read_bytes())
    runs = [run for run in dump.run_data if run.name == EXECUTE][-len(wall_ns) :]
    return summarise([list(events_of(run)) for run in runs], instructions, int(median(wall_ns)))


def events_of(run: Any) -> Iterator[Event]:
    """The calls of one run in order of their ends, and what delegates say of their operators."""
    for row in run.events:
        event = row.profile_event
        if event is None or event.instruction_id < 0:
            continue
        inner = event.delegate_debug_id_str
        name = inner or event.name
        if inner or event.name in CALLS:
            operator = name.rpartition(" #")[0] or name
            yield Event(event.instruction_id, name, operator, event.end_time - event.start_time)


def summarise(
    runs: Sequence[Sequence[Event]], instructions: Mapping[int, Instruction], total_ns: int
) -> Profile:
    """Medians over the runs; every run has the same events in the same order."""
    times: dict[tuple[int, str], list[int]] = defaultdict(list)
    for run in runs:
        for event in _without_inner_times(run):
            times[event.instruction, event.name].append(event.duration_ns)
    medians = {key: int(median(values)) for key, values in times.items()}
    by_instruction: dict[int, list[Event]] = defaultdict(list)
    for event in runs[-1]:
        by_instruction[event.instruction].append(event)
    entries: list[ProfileEntry] = []
    for number, events in by_instruction.items():
        known = instructions.get(number, Instruction(number, f"instruction {number}", ()))
        entries += _delegate(known, events, medians) if known.parts else _kernel(known, events, medians)
    return Profile(tuple(entries), total_ns, SOURCE)


def _without_inner_times(run: Sequence[Event]) -> list[Event]:
    """The same events, with the time of a delegate's own operators taken from its call's."""
    inner: dict[int, int] = defaultdict(int)
    for event in run:
        inner[event.instruction] += event.duration_ns if event.name not in CALLS else 0
    return [
        replace(event, duration_ns=max(event.duration_ns - inner[event.instruction], 0))
        if event.name == DELEGATE_CALL
        else event
        for event in run
    ]


def _kernel(
    instruction: Instruction, events: Sequence[Event], medians: Mapping[tuple[int, str], int]
) -> list[ProfileEntry]:
    layout: Layout = ""
    if instruction.operator in MOVING_KERNELS:
        layout = "explicit" if instruction.moves else "implicit"
    return [
        ProfileEntry(
            f"{event.instruction} {instruction.operator}",
            instruction.operator,
            medians[event.instruction, event.name],
            instruction.nodes,
            layout,
        )
        for event in events
    ]


def _delegate(
    instruction: Instruction, events: Sequence[Event], medians: Mapping[tuple[int, str], int]
) -> list[ProfileEntry]:
    inner = [event for event in events if event.name != DELEGATE_CALL]
    covered = align([event.operator for event in inner], instruction.parts)
    entries = []
    for event, parts in zip(inner, covered, strict=True):
        nodes = tuple(dict.fromkeys(name for part in parts for name in part.nodes))
        duration = medians[event.instruction, event.name]
        layout = _layout(event.operator, parts)
        entries.append(
            ProfileEntry(f"{event.instruction} {event.name}", event.operator, duration, nodes, layout)
        )
    name = f"{instruction.number} {DELEGATE_CALL}"
    rest = medians.get((instruction.number, DELEGATE_CALL), 0)
    return [*entries, ProfileEntry(name, "delegate call, less its operators", rest)]


def _layout(operator: str, parts: Sequence[Part]) -> Layout:
    if _kind(operator, EVENT_KINDS) not in MOVING_KINDS:
        return ""
    return "explicit" if any(part.moves for part in parts) else "implicit"


def align(operators: Sequence[str], parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """For every operator that XNNPACK ran, the parts of the graph that it covers.

    XNNPACK keeps the order, fuses some parts into the one before and puts in operators of its own. So the
    longest common runs are matched; a part without an operator belongs to the one before it.
    """
    ran = [_kind(operator, EVENT_KINDS) for operator in operators]
    asked = [_kind(part.operator, PART_KINDS) for part in parts]
    found: list[list[Part]] = [[] for _ in operators]
    matched = {}
    for block in SequenceMatcher(None, ran, asked, autojunk=False).get_matching_blocks():
        matched.update({block.b + step: block.a + step for step in range(block.size)})
    last = min(matched.values(), default=0)
    for position, part in enumerate(parts):
        last = matched.get(position, last)
        if found:
            found[last].append(part)
    return [tuple(row) for row in found]


def _kind(name: str, table: Sequence[tuple[str, str]]) -> str:
    return next((kind for word, kind in table if word in name), name)
