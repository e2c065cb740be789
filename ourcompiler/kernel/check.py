"""Kernels run in Python, every access looked at: a second reading of the loop form, apart from C.

It is slow, and meant for small kernels. Each phase becomes a Python function; single precision is computed in
double, so that results agree with the C code's but for rounding. What is told: an access outside an array,
and two tasks of a phase of which one writes what the other reads or writes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import DType
from ourcompiler.kernel.functions import FUNCTIONS, WHOLE_BITS
from ourcompiler.kernel.ir import (
    Apply,
    Assign,
    Expr,
    Fetch,
    For,
    If,
    Kernel,
    Let,
    Load,
    Name,
    Number,
    Phase,
    Statement,
    Store,
    Table,
    Turn,
    Variable,
)

NOBODY, SEVERAL = -1, -2
INFIX = {"add": "+", "sub": "-", "mul": "*", "less": "<", "less_equal": "<=", "equal": "=="}


class AccessError(Exception):
    """A kernel that touches what is not its own; the text says which array, where, and in which task."""


def _who(task: int) -> str:
    return "several" if task == SEVERAL else str(task)


@dataclass
class Memory:
    """An array while a kernel runs; of one that is shared, who read and wrote each element in this phase."""

    name: str
    elements: list[Any]
    is_shared: bool = False
    readers: list[int] = field(default_factory=list)
    writers: list[int] = field(default_factory=list)

    def begin(self) -> None:
        """A new phase: nobody has touched anything."""
        if self.is_shared:
            self.readers = [NOBODY] * len(self.elements)
            self.writers = [NOBODY] * len(self.elements)

    def load(self, place: int, task: int) -> Any:
        """An element; raises `AccessError`."""
        if not 0 <= place < len(self.elements):
            raise AccessError(
                f"{self.name}[{place}] is read in task {task}: it has {len(self.elements)} elements"
            )
        if self.is_shared:
            if self.writers[place] not in (NOBODY, task):
                raise AccessError(
                    f"{self.name}[{place}] is read in task {task}, and written in {self.writers[place]}"
                )
            self.readers[place] = task if self.readers[place] in (NOBODY, task) else SEVERAL
        return self.elements[place]

    def load_lanes(self, place: int, lanes: int, step: int, task: int) -> list[Any]:
        """Elements `step` apart."""
        return [self.load(place + lane * step, task) for lane in range(lanes)]

    def store(self, place: int, value: Any, task: int) -> None:
        """Write an element; raises `AccessError`."""
        if not 0 <= place < len(self.elements):
            raise AccessError(
                f"{self.name}[{place}] is written in task {task}: it has {len(self.elements)} elements"
            )
        if self.is_shared:
            for other in (self.writers[place], self.readers[place]):
                if other not in (NOBODY, task):
                    raise AccessError(
                        f"{self.name}[{place}] is written in task {task}, and used in {_who(other)}"
                    )
            self.writers[place] = task
        self.elements[place] = value

    def store_lanes(self, place: int, values: Sequence[Any], task: int) -> None:
        """Write elements side by side."""
        for lane, value in enumerate(values):
            self.store(place + lane, value, task)


def execute(kernel: Kernel, arrays: Sequence[Array]) -> list[Array]:
    """The arrays after the kernel has run, one for each buffer, flat and of the buffer's type.

    What is written needs no meaning before; its size counts. Raises `AccessError`.
    """
    memories = [
        Memory(one.name, values(array, one.dtype), one.is_written)
        for one, array in zip(kernel.buffers, arrays, strict=True)
    ]
    named = {one.name: one for one in memories}
    for phase in kernel.phases:
        run = compiled(phase, kernel.tables)
        for memory in memories:
            memory.begin()
        for task in range(phase.tasks):
            scratch = {one.name: Memory(one.name, [poison(one.dtype)] * one.count) for one in kernel.scratch}
            run({**named, **scratch}, task)
    return [
        array_of(memory.elements, one.dtype) for one, memory in zip(kernel.buffers, memories, strict=True)
    ]


def poison(dtype: DType) -> Any:
    """What stands in memory that has no meaning yet: it spoils whatever is computed from it."""
    return float("nan") if dtype.is_float else True if dtype is DType.BOOL else 99


def values(array: Array, dtype: DType) -> list[Any]:
    """Elements as Python has them."""
    flat = np.asarray(array).reshape(-1)
    return list((flat.astype(np.float64) if dtype.is_float else flat).tolist())


def array_of(elements: Sequence[Any], dtype: DType) -> Array:
    """The elements as an array of that type; whole numbers wrap around."""
    if dtype.is_float or dtype is DType.BOOL:
        with np.errstate(over="ignore"):
            return np.asarray(elements, np.float64 if dtype.is_float else np.bool_).astype(dtype.numpy)
    bits, mask = WHOLE_BITS[dtype], (1 << WHOLE_BITS[dtype]) - 1
    unsigned = np.array([int(one) & mask for one in elements], f"u{bits // 8}")
    return unsigned.view(dtype.numpy)


Run = Callable[[dict[str, Memory], int], None]


def compiled(phase: Phase, tables: Sequence[Table]) -> Run:
    """The phase as a Python function of its arrays and the task."""
    lines = ["def run(arrays, task):", *_block(phase.body, "  "), "  return None"]
    space: dict[str, Any] = {
        "apply": FUNCTIONS,
        "each": _each,
        "splat": _splat,
        "spread": _spread,
        "turn": _turn,
    }
    space |= {f"table_{one.name}": Memory(one.name, list(one.values)) for one in tables}
    space["tables"] = {one.name: space[f"table_{one.name}"] for one in tables}
    exec(compile("\n".join(lines), "<kernel>", "exec"), space)
    run = space["run"]
    known = dict(space["tables"])
    return lambda arrays, task: run({**arrays, **known}, task)


def _each(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """A function lane by lane."""
    return [function(*lane) for lane in zip(*arguments, strict=True)]


def _splat(value: Any, lanes: int) -> list[Any]:
    return [value] * lanes


def _spread(value: Sequence[Any], size: int, lane: int) -> list[Any]:
    return [value[place // size * size + lane] for place in range(len(value))]


def _turn(
    to: Memory, place: int, step: int, source: Memory, start: int, apart: int, lanes: int, task: int
) -> None:
    block = [source.load_lanes(start + row * apart, lanes, 1, task) for row in range(lanes)]
    for number, column in enumerate(zip(*block, strict=True)):
        to.store_lanes(place + number * step, column, task)


def _block(body: Sequence[Statement], indent: str) -> Iterator[str]:
    if not body:
        yield f"{indent}pass"
    for statement in body:
        match statement:
            case Let(name, value) | Variable(name, value) | Assign(name, value):
                yield f"{indent}{_own(name)} = {_value(value)}"
            case Store(buffer, place, value):
                method = "store" if value.kind.lanes == 1 else "store_lanes"
                yield f"{indent}arrays[{buffer!r}].{method}({_value(place)}, {_value(value)}, task)"
            case Turn(buffer, place, step, rows):
                source = f"arrays[{rows.buffer!r}], {_value(rows.place)}, {rows.step}, {rows.kind.lanes}"
                yield f"{indent}turn(arrays[{buffer!r}], {_value(place)}, {step}, {source}, task)"
            case Fetch(_, place, _):
                yield f"{indent}{_value(place)}"
            case For(name, start, stop, step, inner):
                yield f"{indent}for {_own(name)} in range({_value(start)}, {_value(stop)}, {step}):"
                yield from _block(inner, indent + " ")
            case If(condition, inner, otherwise):
                yield f"{indent}if {_value(condition)}:"
                yield from _block(inner, indent + " ")
                if otherwise:
                    yield f"{indent}else:"
                    yield from _block(otherwise, indent + " ")


def _own(name: str) -> str:
    """A name that means nothing to Python."""
    return name if name == "task" else f"v_{name}"


def _value(expr: Expr) -> str:
    match expr:
        case Number(value, kind):
            text = f"float('{float(value)!r}')" if kind.dtype.is_float else repr(value)
            return text if kind.lanes == 1 else f"splat({text}, {kind.lanes})"
        case Name(name, _):
            return _own(name)
        case Load(buffer, place, kind, step):
            if kind.lanes == 1:
                return f"arrays[{buffer!r}].load({_value(place)}, task)"
            return f"arrays[{buffer!r}].load_lanes({_value(place)}, {kind.lanes}, {step}, task)"
        case Apply():
            return _apply(expr)


def _apply(expr: Apply) -> str:
    function, kind = expr.function, expr.kind
    arguments = [_value(one) for one in expr.arguments]
    dtypes = expr.arguments[0].kind.dtype, kind.dtype
    if function == "splat":
        return f"splat({arguments[0]}, {kind.lanes})"
    if function == "spread":
        return f"spread({', '.join(arguments)})"
    if function.startswith("lanes_"):
        return f"apply[{function!r}]({arguments[0]})"
    if expr.arguments[0].kind.lanes > 1:
        return f"each(apply[{function!r}, {dtypes[0].value!r}, {dtypes[1].value!r}], {', '.join(arguments)})"
    if function == "where":  # only one side is computed: the other may lie outside
        return f"({arguments[1]} if {arguments[0]} else {arguments[2]})"
    if function in INFIX and dtypes[0] in (DType.F32, DType.F64, DType.I64):
        return f"({arguments[0]} {INFIX[function]} {arguments[1]})"
    return f"apply[{function!r}, {dtypes[0].value!r}, {dtypes[1].value!r}]({', '.join(arguments)})"
