"""Kernels as C, in the vocabulary of `runtime/kernels.h`."""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ourcompiler.ir.types import FLOATS, DType
from ourcompiler.kernel.ir import (
    Apply,
    Assign,
    Expr,
    Fetch,
    For,
    If,
    Kernel,
    Kind,
    Let,
    Load,
    Name,
    Number,
    Phase,
    Statement,
    Store,
    Turn,
    Variable,
)

ALIGNMENT = 64
NARROW_FLOATS = frozenset({DType.F16, DType.BF16})
INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "bit_and": "&",
    "bit_or": "|",
    "bit_xor": "^",
    "and": "&",
    "or": "|",
    "xor": "^",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
}
COMPARISONS = frozenset(
    {"less", "less_equal", "equal", "is_nan", "is_positive_infinity", "is_negative_infinity"}
)


def phase_name(kernel: str, number: int) -> str:
    """The C function of a phase."""
    return f"{kernel}_{number}"


def print_kernel(kernel: Kernel) -> str:
    """C functions, one for each phase: `void NAME_0(char *const *, char *scratch, i64 task)`."""
    lines = [
        f"static const i32 {kernel.name}_{one.name}[] = {{{', '.join(map(str, one.values))}}};"
        for one in kernel.tables
    ]
    for number, phase in enumerate(kernel.phases):
        lines += _phase(kernel, number, phase)
    return "\n".join(lines) + "\n"


def _phase(kernel: Kernel, number: int, phase: Phase) -> Iterator[str]:
    yield f"void {phase_name(kernel.name, number)}(char *const *arguments, char *scratch, i64 task) {{"
    for place, one in enumerate(kernel.buffers):
        constant = "" if one.is_written else "const "
        kind = memory_type(one.dtype)
        yield f"  {constant}{kind} *restrict {one.name} = ({constant}{kind} *)arguments[{place}];"
    offset = 0
    for scratch in kernel.scratch:
        kind = memory_type(scratch.dtype)
        yield f"  {kind} *restrict {scratch.name} = ({kind} *)(scratch + {offset});"
        offset += scratch_bytes(scratch.dtype, scratch.count)
    for table in kernel.tables:
        yield f"  const i32 *{table.name} = {kernel.name}_{table.name};"
    yield from _block(phase.body, "  ")
    yield "}"


def scratch_bytes(dtype: DType, count: int) -> int:
    """Bytes that a scratch array takes, whole cache lines."""
    return -(-dtype.byte_count * count // ALIGNMENT) * ALIGNMENT


def memory_type(dtype: DType) -> str:
    """The C type of elements in memory."""
    return "u8" if dtype is DType.BOOL else dtype.value


def c_type(kind: Kind) -> str:
    """The C type of a value; flags side by side are whole masks."""
    if kind.lanes == 1:
        return kind.dtype.value
    return f"i32x{kind.lanes}" if kind.dtype is DType.BOOL else str(kind)


def _block(body: tuple[Statement, ...], indent: str) -> Iterator[str]:
    for statement in body:
        match statement:
            case For(name, start, stop, step, inner):
                head = f"i64 {name} = {print_value(start)}; {name} < {print_value(stop)}; {name} += {step}"
                yield f"{indent}for ({head}) {{"
                yield from _block(inner, indent + "  ")
                yield f"{indent}}}"
            case If(condition, inner, otherwise):
                yield f"{indent}if ({print_value(condition)}) {{"
                yield from _block(inner, indent + "  ")
                if otherwise:
                    yield f"{indent}}} else {{"
                    yield from _block(otherwise, indent + "  ")
                yield f"{indent}}}"
            case _:
                yield f"{indent}{_line(statement)}"


def _line(statement: Let | Variable | Assign | Store | Turn | Fetch) -> str:
    """A statement that has no block."""
    match statement:
        case Let(name, value):
            return f"const {c_type(value.kind)} {name} = {print_value(value)};"
        case Variable(name, value):
            return f"{c_type(value.kind)} {name} = {print_value(value)};"
        case Assign(name, value):
            return f"{name} = {print_value(value)};"
        case Store(buffer, place, value):
            return f"{_store(buffer, place, value)};"
        case Turn(buffer, place, step, rows):
            source = f"&{rows.buffer}[{print_value(rows.place)}], {rows.step}"
            return f"turn_{rows.kind}(&{buffer}[{print_value(place)}], {step}, {source});"
        case Fetch(buffer, place, is_next):  # as a number: beyond the end there is no pointer
            return (
                f"FETCH{'_NEXT' if is_next else ''}((uintptr_t){buffer} + (u64)(4 * {print_value(place)}));"
            )


def _store(buffer: str, place: Expr, value: Expr) -> str:
    if value.kind.lanes == 1:
        return f"{buffer}[{print_value(place)}] = {print_value(value)}"
    return f"store_{value.kind}(&{buffer}[{print_value(place)}], {print_value(value)})"


def print_value(expr: Expr) -> str:
    """A value as a C expression, in parentheses where it has several parts."""
    match expr:
        case Number():
            return number(expr)
        case Name(name, _):
            return name
        case Load(buffer, place, kind, step):
            return _load(buffer, print_value(place), kind, step)
        case Apply():
            return _apply(expr)


def number(expr: Number) -> str:
    """A literal of the right type; infinities and NaN too."""
    value, dtype = expr.value, expr.kind.dtype
    if expr.kind.lanes > 1:
        return f"splat_{expr.kind}({number(Number(value, Kind(dtype)))})"
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if dtype in FLOATS:
        return _fraction(float(value), dtype)
    text = str(int(value))
    if dtype is DType.I64:
        return (
            f"(-{2**63 - 1}LL - 1)"
            if int(value) == -(2**63)
            else text + ("LL" if abs(int(value)) >> 31 else "")
        )
    return f"(({dtype.value}){text}{'ULL' if dtype is DType.U64 else ''})"


def _fraction(value: float, dtype: DType) -> str:
    if math.isnan(value) or math.isinf(value):
        text = "NAN" if math.isnan(value) else "-INFINITY" if value < 0 else "INFINITY"
        return _narrowed(text, dtype) if dtype in NARROW_FLOATS else f"(({dtype.value}){text})"
    if dtype is DType.F64:
        return f"({value!r})" if value < 0 else repr(value)
    with np.errstate(over="ignore"):
        short = float(np.float32(value))
    if math.isinf(short):
        return _fraction(short, dtype)
    text = f"{short!r}f"
    if dtype in NARROW_FLOATS:
        return _narrowed(text, dtype)
    return f"({text})" if value < 0 else text


def _narrowed(text: str, dtype: DType) -> str:
    """A single rounded to half precision."""
    return f"bf16_of_f32({text})" if dtype is DType.BF16 else f"(({dtype.value})({text}))"


def _single(text: str, dtype: DType) -> str:
    """A number as a single."""
    return f"f32_of_bf16({text})" if dtype is DType.BF16 else f"((f32){text})"


def _load(buffer: str, place: str, kind: Kind, step: int) -> str:
    if kind.lanes == 1:
        return f"({buffer}[{place}] != 0)" if kind.dtype is DType.BOOL else f"{buffer}[{place}]"
    if step != 1:
        return f"stepped_{kind}(&{buffer}[{place}], {step})"
    return f"load_{kind}(&{buffer}[{place}])"


def _apply(expr: Apply) -> str:
    dtype = expr.arguments[0].kind.dtype
    if dtype in NARROW_FLOATS and expr.function not in ("cast", "bit_cast", "where", "splat"):
        return _widened(expr)
    arguments = [print_value(one) for one in expr.arguments]
    special = SPECIAL.get(expr.function)
    if special is not None:
        return special(expr, arguments)
    if expr.function in INFIX:
        left, right = arguments
        text = f"({left} {INFIX[expr.function]} {right})"
        is_small = expr.kind.lanes == 1 and dtype.byte_count < 4 and expr.function not in COMPARISONS
        return f"(({dtype.value}){text})" if is_small and dtype is not DType.BOOL else text
    kind = expr.arguments[0].kind
    return f"{expr.function}_{kind}({', '.join(arguments)})"


def _widened(expr: Apply) -> str:
    """Half precision is computed in single and rounded, operator by operator."""
    wide = Kind(DType.F32)
    inner = Apply(expr.function, tuple(Apply("cast", (one,), wide) for one in expr.arguments), wide)
    text = _apply(inner)
    return text if expr.function in COMPARISONS else _narrowed(text, expr.kind.dtype)


def _cast(expr: Apply, arguments: list[str]) -> str:
    (value,), source, target = arguments, expr.arguments[0].kind, expr.kind
    if source == target:
        return value
    if source.lanes > 1:
        if target.dtype is DType.BOOL:
            return f"({value} != 0)"
        if source.dtype is DType.BOOL:  # a mask: 1.0 where it is set
            return f"(-__builtin_convertvector({value}, {c_type(target)}))"
        return f"__builtin_convertvector({value}, {c_type(target)})"
    if source.dtype is DType.BF16:
        value = _single(value, source.dtype)
    if target.dtype is DType.BOOL:
        return f"({value} != 0)"
    if source.dtype in FLOATS and target.dtype not in FLOATS:
        whole = "whole_u64" if target.dtype is DType.U64 else "whole_i64"
        return f"(({target.dtype.value}){whole}((f64){value}))"
    if target.dtype in NARROW_FLOATS:
        return _narrowed(f"(f32){value}", target.dtype)
    return f"(({target.dtype.value}){value})"


def _where(expr: Apply, arguments: list[str]) -> str:
    condition, yes, no = arguments
    if expr.arguments[0].kind.lanes > 1:
        return f"select_{expr.kind}({condition}, {yes}, {no})"
    return f"({condition} ? {yes} : {no})"  # only one side is computed: the other may lie outside


def _quotient(expr: Apply, arguments: list[str]) -> str:
    sign = "/" if expr.function == "quotient" else "%"
    return f"(i64)((u32){arguments[0]} {sign} {arguments[1]}u)"


def _spread(expr: Apply, arguments: list[str]) -> str:
    size, lane = (int(one.value) for one in expr.arguments[1:] if isinstance(one, Number))
    places = ", ".join(str(place // size * size + lane) for place in range(expr.kind.lanes))
    return f"__builtin_shufflevector({arguments[0]}, {arguments[0]}, {places})"


def _infinity(expr: Apply, sign: str) -> str:
    return number(Number(float(f"{sign}inf"), expr.arguments[0].kind))


SPECIAL: Mapping[str, Callable[[Apply, list[str]], str]] = {
    "cast": _cast,
    "bit_cast": lambda expr, args: f"BIT_CAST({memory_type(expr.kind.dtype)}, {args[0]})",
    "where": _where,
    "quotient": _quotient,
    "remainder": _quotient,
    "spread": _spread,
    "splat": lambda expr, args: f"splat_{expr.kind}({args[0]})",
    "fma": lambda expr, args: f"({args[0]} * {args[1]} + {args[2]})",
    "neg": lambda expr, args: (
        f"(-{args[0]})" if expr.kind.dtype in FLOATS else f"(({expr.kind.dtype.value})(0 - {args[0]}))"
    ),
    "not": lambda expr, args: f"(~{args[0]})" if expr.kind.lanes > 1 else f"(!{args[0]})",
    "bit_not": lambda expr, args: f"(({expr.kind.dtype.value})~{args[0]})",
    "div": lambda expr, args: (
        f"({args[0]} / {args[1]})"
        if expr.kind.dtype in FLOATS
        else f"div_{expr.kind.dtype.value}({args[0]}, {args[1]})"
    ),
    "is_nan": lambda expr, args: f"({args[0]} != {args[0]})",
    "is_positive_infinity": lambda expr, args: f"({args[0]} == {_infinity(expr, '')})",
    "is_negative_infinity": lambda expr, args: f"({args[0]} == {_infinity(expr, '-')})",
    "within": lambda expr, args: f"within({args[0]}, {args[1]})",
    "floor_quotient": lambda expr, args: f"floor_quotient({args[0]}, {args[1]})",
    "floor_remainder": lambda expr, args: f"floor_remainder({args[0]}, {args[1]})",
    "floor": lambda expr, args: args[0] if expr.kind.dtype not in FLOATS else f"floor_{expr.kind}({args[0]})",
    "ceil": lambda expr, args: args[0] if expr.kind.dtype not in FLOATS else f"ceil_{expr.kind}({args[0]})",
    "round": lambda expr, args: args[0] if expr.kind.dtype not in FLOATS else f"round_{expr.kind}({args[0]})",
}
"""How functions are printed that are neither infix nor a function of the same name."""
