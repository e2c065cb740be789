"""Kernels from text: the inverse of `kernel/text.py`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ourcompiler.errors import CompileError
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    INDEX,
    TASK,
    Apply,
    Assign,
    Buffer,
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
    Scratch,
    Statement,
    Store,
    Table,
    Turn,
    Variable,
)
from ourcompiler.kernel.text import BINDING, INDENT, INFIX

TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:inf|nan|True|False|\d+(?:\.\d*)?(?:e[-+]?\d+)?)(?![A-Za-z_]))"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>[-+*/%<>&()\[\],:=]))"
)
FUNCTION_OF = {sign: name for name, sign in INFIX.items()}
LANES = re.compile(r"x(\d+)$")


def parse_kernel(text: str) -> Kernel:
    """The kernel that a text tells; raises `CompileError` with the line that cannot be read."""
    lines = [line for line in text.splitlines() if line.strip()]
    head = re.fullmatch(r"kernel (\w+)\((.*)\)", lines[0]) if lines else None
    if head is None:
        raise CompileError("a kernel begins with `kernel NAME(buffers)`", where=lines[0] if lines else "text")
    buffers = tuple(_buffer(one) for one in head[2].split(", ") if one)
    reader = _Reader(lines, {one.name: Kind(one.dtype) for one in buffers})
    scratch, tables = reader.declarations()
    return Kernel(head[1], buffers, tuple(reader.phases()), tuple(scratch), tuple(tables))


def _buffer(text: str) -> Buffer:
    found = re.fullmatch(r"(\w+): (out )?(\w+)", text)
    if found is None:
        raise CompileError("a buffer is `NAME: [out] TYPE`", where=text)
    return Buffer(found[1], _dtype(found[3], text), bool(found[2]))


def _dtype(text: str, line: str) -> DType:
    try:
        return DType(text)
    except ValueError as error:
        raise CompileError(f"there is no element type {text!r}", where=line) from error


@dataclass
class _Reader:
    """Goes over the lines once; `kinds` has what is named so far."""

    lines: list[str]
    kinds: dict[str, Kind]
    at: int = 1
    tables: set[str] = field(default_factory=set)

    def declarations(self) -> tuple[list[Scratch], list[Table]]:
        scratch, tables = [], []
        while self.at < len(self.lines):
            line = self.lines[self.at].strip()
            if found := re.fullmatch(r"scratch (\w+): (\w+)\[(\d+)\]", line):
                scratch.append(Scratch(found[1], _dtype(found[2], line), int(found[3])))
                self.kinds[found[1]] = Kind(scratch[-1].dtype)
            elif found := re.fullmatch(r"table (\w+) = ((?:-?\d+ ?)+)", line):
                tables.append(Table(found[1], tuple(map(int, found[2].split()))))
                self.kinds[found[1]] = Kind(DType.I32)
            else:
                break
            self.at += 1
        return scratch, tables

    def phases(self) -> Iterator[Phase]:
        while self.at < len(self.lines):
            found = re.fullmatch(r"\s*phase (\d+)", self.lines[self.at])
            if found is None:
                raise CompileError("here a phase should begin", where=self.lines[self.at])
            self.at += 1
            self.kinds[TASK.name] = INDEX
            yield Phase(int(found[1]), self.block(2))

    def block(self, depth: int) -> tuple[Statement, ...]:
        found = []
        while self.at < len(self.lines) and self._depth() >= depth:
            if self._depth() > depth:
                raise CompileError("this line is indented too far", where=self.lines[self.at])
            found.append(self.statement(depth))
        return tuple(found)

    def _depth(self) -> int:
        line = self.lines[self.at]
        return (len(line) - len(line.lstrip())) // len(INDENT)

    def statement(self, depth: int) -> Statement:
        line = self.lines[self.at].strip()
        self.at += 1
        if found := re.fullmatch(r"(let|var) (\w+): (\w+) = (.*)", line):
            value = self.expression(found[4])
            self.kinds[found[2]] = value.kind
            return Let(found[2], value) if found[1] == "let" else Variable(found[2], value)
        if found := re.fullmatch(r"for (\w+) from (.*) to (.*) step (\d+)", line):
            start, stop = self.expression(found[2]), self.expression(found[3])
            self.kinds[found[1]] = INDEX
            return For(found[1], start, stop, int(found[4]), self.block(depth + 1))
        if found := re.fullmatch(r"fetch( next)? (\w+)\[(.*)\]", line):
            return Fetch(found[2], self.expression(found[3]), bool(found[1]))
        if found := re.fullmatch(r"turn (\w+)\[.*", line):
            return self._turn(found[1], line)
        if found := re.fullmatch(r"if (.*)", line):
            return self._branches(self.expression(found[1]), depth)
        if found := re.fullmatch(r"(\w+)\[(.*)\] = (.*)", line):
            return self._store(found[1], line)
        if found := re.fullmatch(r"(\w+) = (.*)", line):
            return Assign(found[1], self.expression(found[2]))
        raise CompileError("this is no statement", where=line)

    def _branches(self, condition: Expr, depth: int) -> If:
        body = self.block(depth + 1)
        if self.at < len(self.lines) and self._depth() == depth and self.lines[self.at].strip() == "else":
            self.at += 1
            return If(condition, body, self.block(depth + 1))
        return If(condition, body)

    def _turn(self, buffer: str, line: str) -> Turn:
        parser = _Expression(line, self.kinds)
        for token in ("turn", buffer, "["):
            parser.take(token)
        place = parser.binary(0)
        for token in ("]", "by"):
            parser.take(token)
        step = parser.binary(0)
        parser.take("=")
        rows = parser.binary(0)
        parser.end()
        if not isinstance(step, Number) or not isinstance(rows, Load):
            raise CompileError("rows of one array are turned, a known number apart", where=line)
        return Turn(buffer, place, int(step.value), rows)

    def _store(self, buffer: str, line: str) -> Store:
        """The bracket that closes the place is found by reading it."""
        parser = _Expression(line, self.kinds)
        parser.take(buffer)
        parser.take("[")
        place = parser.binary(0)
        parser.take("]")
        parser.take("=")
        value = parser.binary(0)
        parser.end()
        return Store(buffer, place, value)

    def expression(self, text: str) -> Expr:
        parser = _Expression(text, self.kinds)
        found = parser.binary(0)
        parser.end()
        return found


class _Expression:
    """Reads one value by precedence climbing."""

    def __init__(self, text: str, kinds: dict[str, Kind]) -> None:
        self.text, self.kinds = text, kinds
        self.tokens = list(_tokens(text))
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        found = self.peek()
        if not found or (wanted and found != wanted):
            raise CompileError(f"{wanted or 'more'} expected, {found or 'the end'} found", where=self.text)
        self.at += 1
        return found

    def end(self) -> None:
        if self.peek():
            raise CompileError(f"{self.peek()} follows a complete value", where=self.text)

    def binary(self, least: int) -> Expr:
        left = self.atom()
        while self.peek() in BINDING and BINDING[self.peek()] >= least:
            sign = self.take()
            right = self.binary(BINDING[sign] + 1)
            kind = Kind(DType.BOOL, left.kind.lanes) if sign == "<" else left.kind
            left = Apply(FUNCTION_OF[sign], (left, right), kind)
        return left

    def atom(self) -> Expr:
        token = self.take()
        if token == "(":
            inner = self.binary(0)
            self.take(")")
            return inner
        if _is_number(token):
            return self._number(token)
        if self.peek() == "[":
            return self._load(token)
        if self.peek() == "<" and token not in self.kinds:
            return self._call(token)
        if token not in self.kinds:
            raise CompileError(f"nothing is named {token}", where=self.text)
        return Name(token, self.kinds[token])

    def _number(self, token: str) -> Number:
        if self.peek() != ":":
            return Number(int(token), INDEX)
        self.take(":")
        kind = kind_of(self.take(), self.text)
        if kind.dtype is DType.BOOL:
            return Number(token == "True", kind)
        return Number(float(token) if kind.dtype.is_float else int(token), kind)

    def _load(self, buffer: str) -> Load:
        if buffer not in self.kinds:
            raise CompileError(f"there is no buffer {buffer}", where=self.text)
        self.take("[")
        place = self.binary(0)
        lanes = step = 1
        if found := LANES.match(self.peek()):
            lanes = int(found[1])
            self.take()
        if self.peek() == "by":
            self.take()
            step = int(self.take())
        self.take("]")
        return Load(buffer, place, Kind(self.kinds[buffer].dtype, lanes), step)

    def _call(self, function: str) -> Apply:
        self.take("<")
        kind = kind_of(self.take(), self.text)
        self.take(">")
        self.take("(")
        arguments = [self.binary(0)]
        while self.peek() == ",":
            self.take(",")
            arguments.append(self.binary(0))
        self.take(")")
        return Apply(function, tuple(arguments), kind)


def kind_of(text: str, where: str) -> Kind:
    """The kind that `f32x16` names; raises `CompileError` for none."""
    found = re.fullmatch(r"([a-wyz]+\d*)(?:x(\d+))?", text)
    if found is None:
        raise CompileError(f"there is no kind {text!r}", where=where)
    return Kind(_dtype(found[1], where), int(found[2] or 1))


def _is_number(token: str) -> bool:
    bare = token.lstrip("-")
    return bare[:1].isdigit() or bare in ("inf", "nan", "True", "False")


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text.rstrip()):
        found = TOKEN.match(text, at)
        if found is None:
            raise CompileError(f"{text[at]!r} is no part of a kernel", where=text)
        yield found[0].strip()
        at = found.end()
