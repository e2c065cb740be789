"""Reading a graph's text, as `text.show` writes it; whatever else stands there is an error with its line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Array, Attribute, Graph, Node, attributes
from ourcompiler.ir.index import Affine, Dim, Entry, Quotient, Remainder, constant, plus, times
from ourcompiler.ir.index_map import Guard, IndexMap
from ourcompiler.ir.text import CONSTANTS_FOLDER, constant_from
from ourcompiler.ir.types import DType, TensorType

TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<constant>0x[0-9a-f]*|sha256:[0-9a-f]{64})
    |(?P<float>-?(?:\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|inf|nan)f\b)
    |(?P<mark>->|//|<=|[-+*%<>=:(){}\[\],])
    |(?P<word>[A-Za-z0-9_./-]*[A-Za-z0-9_.])""",
    re.VERBOSE,
)
T = TypeVar("T")


class _Line:
    """The tokens of one line, and how far they were read."""

    def __init__(self, text: str, number: int) -> None:
        self.number = number
        self.indent = len(text) - len(text.lstrip(" "))
        self.tokens: list[tuple[str, str]] = []
        place, end = 0, len(text.rstrip("\n"))
        while place < end:
            match = TOKEN.match(text, place, end)
            if match is None:
                raise self.error(f"cannot be read from {text[place : place + 20]!r} on")
            place = match.end()
            if match.lastgroup != "space":
                self.tokens.append((match.lastgroup or "", match.group()))
        self.at = 0

    def error(self, what: str) -> CompileError:
        return CompileError(what, where=f"line {self.number}")

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place][1] if place < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        if self.at == len(self.tokens):
            raise self.error(f"ends where {expected or 'more'} was expected")
        _, text = self.tokens[self.at]
        if expected and text != expected:
            raise self.error(f"{text!r} where {expected!r} was expected")
        self.at += 1
        return text

    def accept(self, text: str) -> bool:
        if self.peek() != text:
            return False
        self.at += 1
        return True

    def list_of(self, item: Callable[[], T], end: str) -> tuple[T, ...]:
        found: list[T] = []
        while not self.accept(end):
            found.append(item())
            if not self.accept(","):
                self.take(end)
                break
        return tuple(found)

    def name(self) -> str:
        text = self.take()
        return str(json.loads(text)) if text.startswith('"') else text

    def value(self) -> str:
        self.take("%")
        return self.name()

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        text = self.take()
        try:
            return sign * int(text)
        except ValueError:
            raise self.error(f"{text!r} where a number was expected") from None


def parse(text: str, folder: Path | None = None) -> Graph:
    """The graph that the text shows; longer constants come from the dump's `folder`.

    Raises `CompileError` with the line for text that is no graph, `CompileError` for a constant that is
    missing or was altered.
    """
    lines = [_Line(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise CompileError("an empty file where a graph was expected")
    reader = _Reader(lines, folder / CONSTANTS_FOLDER if folder else None)
    try:
        graph = reader.graph("graph")
    except (KeyError, ValueError, IndexError) as error:
        where = f"line {lines[min(reader.at, len(lines)) - 1].number}"
        raise CompileError(f"not a graph: {error}", where=where) from error
    if reader.at < len(lines):
        raise lines[reader.at].error("stands after the end of the graph")
    return graph


class _Reader:
    """Lines from the top; `at` is the next one."""

    def __init__(self, lines: list[_Line], pool: Path | None) -> None:
        self.lines, self.pool, self.at = lines, pool, 0

    def graph(self, keyword: str) -> Graph:
        head = self.lines[self.at]
        self.at += 1
        head.take(keyword)
        name = head.name()
        types: dict[str, TensorType] = {}
        head.take("(")
        inputs = head.list_of(lambda: _typed(head, types), ")")
        head.take("->")
        head.take("(")
        outputs = head.list_of(lambda: _result(head), ")")
        _ended(head)
        constants: dict[str, Array] = {}
        nodes: list[Node] = []
        while self.at < len(self.lines) and self.lines[self.at].indent > head.indent:
            line = self.lines[self.at]
            if line.peek() == "constant":
                self._constant(line, types, constants)
            else:
                nodes.append(self._node(line, types))
        return Graph(inputs, outputs, tuple(nodes), types, constants, name)

    def _constant(self, line: _Line, types: dict[str, TensorType], constants: dict[str, Array]) -> None:
        self.at += 1
        line.take("constant")
        name = _typed(line, types)
        line.take("=")
        constants[name] = constant_from(line.take(), types[name], self.pool)
        _ended(line)

    def _node(self, line: _Line, types: dict[str, TensorType]) -> Node:
        self.at += 1
        outputs = [_typed(line, types)]
        while line.accept(","):
            outputs.append(_typed(line, types))
        line.take("=")
        op = line.take()
        line.take("(")
        inputs = line.list_of(lambda: "" if line.accept("_") else line.value(), ")")
        facts = dict(line.list_of(lambda: _attribute(line), "}")) if line.accept("{") else {}
        origin: list[str] = []
        if line.accept("//"):
            line.take("from")
            origin.append(line.name())
            while line.accept(","):
                origin.append(line.name())
        _ended(line)
        body = None
        if self.at < len(self.lines) and self.lines[self.at].peek() == "body":
            body = self.graph("body")
        return Node(op, inputs, tuple(outputs), attributes(facts), tuple(origin), body)


def _ended(line: _Line) -> None:
    if line.peek():
        raise line.error(f"{line.peek()!r} where the line should end")


def _typed(line: _Line, types: dict[str, TensorType]) -> str:
    name = line.value()
    line.take(":")
    dtype = line.take()
    try:
        kind = DType(dtype)
    except ValueError:
        raise line.error(f"{dtype!r} is no element type") from None
    line.take("[")
    if name in types:
        raise line.error(f"%{name} is made twice")
    types[name] = TensorType(kind, _shape(line, "]"))
    return name


def _shape(line: _Line, end: str) -> tuple[int, ...]:
    text = ""
    while not line.accept(end):
        text += line.take()
    try:
        return tuple(int(size) for size in text.split("x")) if text else ()
    except ValueError:
        raise line.error(f"{text!r} is no shape") from None


def _result(line: _Line) -> tuple[str, str]:
    name = line.name()
    line.take("=")
    return name, line.value()


def _attribute(line: _Line) -> tuple[str, Attribute]:
    name = line.take()
    line.take("=")
    return name, _attribute_value(line)


def _attribute_value(line: _Line) -> Attribute:
    if line.kind() == "string":
        return line.name()
    if line.kind() == "float":
        return float(line.take()[:-1])
    if line.accept("["):
        return line.list_of(lambda: _attribute_value(line), "]")  # type: ignore[return-value]
    if line.peek() in ("true", "false"):
        return line.take() == "true"
    if line.accept("map"):
        return _index_map(line)
    return line.integer()


def _index_map(line: _Line) -> IndexMap:
    line.take("<")
    shape = _shape(line, "from")
    source = _shape(line, ">")
    line.take("(")
    line.list_of(line.take, ")")
    line.take("->")
    line.take("(")
    results = line.list_of(lambda: _sum(line), ")")
    guards: list[Guard] = []
    fill: float | int | None = None
    if line.accept("where"):
        guards.append(_guard(line))
        while line.accept(","):
            guards.append(_guard(line))
        line.take("else")
        found = _attribute_value(line)
        assert isinstance(found, float | int)
        fill = found
    return IndexMap(shape, source, results, tuple(guards), fill)


def _guard(line: _Line) -> Guard:
    line.take("0")
    line.take("<=")
    index = _sum(line)
    line.take("<")
    return Guard(index, line.integer())


def _sum(line: _Line) -> Affine:
    """An expression exactly as it stands: it was in simplest form when it was written."""
    total = _product(line, -1 if line.accept("-") else 1)
    while line.peek() in ("+", "-"):
        total = plus(total, _product(line, 1 if line.take() == "+" else -1))
    return total


def _product(line: _Line, sign: int) -> Affine:
    left = _factor(line)
    while line.peek() in ("*", "//", "%"):
        match line.take():
            case "*":
                left = times(_factor(line), left.constant)
            case "//":
                left = Affine(0, ((Quotient(left, line.integer()), 1),))
            case _:
                left = Affine(0, ((Remainder(left, line.integer()), 1),))
    return times(left, sign)


def _factor(line: _Line) -> Affine:
    if line.accept("("):
        inner = _sum(line)
        line.take(")")
        return inner
    if line.accept("["):
        table = []
        while not line.accept("]"):
            table.append(line.integer())
        line.take("[")
        at = _sum(line)
        line.take("]")
        return Affine(0, ((Entry(tuple(table), at), 1),))
    if re.fullmatch(r"d\d+", line.peek()):
        return Affine(0, ((Dim(int(line.take()[1:])), 1),))
    return constant(line.integer())
