"""Kernels as text and back (`kernel/parse.py`).

    kernel add(b0: f32, b1: out f32)
      phase 4
        for i from task * 256 to task * 256 + 256 step 16
          let v: f32x16 = b0[i]
          b1[i] = v + splat<f32x16>(1.0:f32)

Infix operators are those of C; blocks are what is indented further.
"""

from collections.abc import Iterator

from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    INDEX,
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
    Statement,
    Store,
    Turn,
    Variable,
)

INDENT = "  "
INFIX = {"add": "+", "sub": "-", "mul": "*", "quotient": "/", "remainder": "%", "less": "<", "and": "&"}
BINDING = {"&": 1, "<": 2, "+": 3, "-": 3, "*": 4, "/": 4, "%": 4}


def show(kernel: Kernel) -> str:
    """The kernel as text."""
    return "\n".join(_lines(kernel)) + "\n"


def _lines(kernel: Kernel) -> Iterator[str]:
    buffers = ", ".join(
        f"{one.name}: {'out ' if one.is_written else ''}{one.dtype.value}" for one in kernel.buffers
    )
    yield f"kernel {kernel.name}({buffers})"
    for scratch in kernel.scratch:
        yield f"{INDENT}scratch {scratch.name}: {scratch.dtype.value}[{scratch.count}]"
    for table in kernel.tables:
        yield f"{INDENT}table {table.name} = {' '.join(map(str, table.values))}"
    for phase in kernel.phases:
        yield f"{INDENT}phase {phase.tasks}"
        yield from _block(phase.body, INDENT * 2)


def _block(body: tuple[Statement, ...], indent: str) -> Iterator[str]:
    for statement in body:
        match statement:
            case For(name, start, stop, step, inner):
                yield f"{indent}for {name} from {expression(start)} to {expression(stop)} step {step}"
                yield from _block(inner, indent + INDENT)
            case If(condition, inner, otherwise):
                yield f"{indent}if {expression(condition)}"
                yield from _block(inner, indent + INDENT)
                if otherwise:
                    yield f"{indent}else"
                    yield from _block(otherwise, indent + INDENT)
            case _:
                yield f"{indent}{_line(statement)}"


def _line(statement: Let | Variable | Assign | Store | Turn | Fetch) -> str:
    """A statement that has no block."""
    match statement:
        case Let(name, value):
            return f"let {name}: {value.kind} = {expression(value)}"
        case Variable(name, value):
            return f"var {name}: {value.kind} = {expression(value)}"
        case Assign(name, value):
            return f"{name} = {expression(value)}"
        case Store(buffer, place, value):
            return f"{buffer}[{expression(place)}] = {expression(value)}"
        case Turn(buffer, place, step, rows):
            return f"turn {buffer}[{expression(place)}] by {step} = {expression(rows)}"
        case Fetch(buffer, place, is_next):
            return f"fetch{' next' if is_next else ''} {buffer}[{expression(place)}]"


def expression(expr: Expr, binding: int = 0) -> str:
    """A value as text, in parentheses where what is around it binds more tightly."""
    match expr:
        case Number(value, kind):
            shown = (
                float(value) if kind.dtype.is_float else bool(value) if kind.dtype is DType.BOOL else value
            )
            return str(value) if kind == INDEX else f"{shown!r}:{kind}"
        case Name(name, _):
            return name
        case Load(buffer, place, kind, step):
            lanes = "" if kind.lanes == 1 else f" x{kind.lanes}"
            apart = "" if step == 1 else f" by {step}"
            return f"{buffer}[{expression(place)}{lanes}{apart}]"
        case Apply(function, (left, right), kind) if function in INFIX and left.kind == right.kind:
            sign = INFIX[function]
            level = BINDING[sign]
            text = f"{expression(left, level)} {sign} {expression(right, level + 1)}"
            return f"({text})" if level < binding else text
        case Apply(function, arguments, kind):
            return f"{function}<{kind}>({', '.join(map(expression, arguments))})"
