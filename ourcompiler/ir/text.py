"""Graphs as text and back: what is printed can be read, edited and compiled from there.

    graph network(%x: f32[1x8]) -> (y = %y)
      constant %w: f32[8] = sha256:ab12…
      %v: f32[8x1] = View(%x) {map=(d0, d1) -> (d1, d0)}
      %y: f32[1x8] = Add(%v, %w)  // from a, b

Short constants are written out; longer ones are told by their digest and lie in a folder beside the file.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Array, Attribute, Graph
from ourcompiler.ir.index_map import IndexMap
from ourcompiler.ir.types import TensorType

WRITTEN_OUT_BYTES = 64
INDENT = "  "
CONSTANTS_FOLDER = "constants"
DIGEST_MARK = "sha256:"


def show(graph: Graph) -> str:
    """The graph as text."""
    return "\n".join(_lines(graph, "graph " + quoted(graph.name), "")) + "\n"


def _lines(graph: Graph, head: str, indent: str) -> Iterator[str]:
    inputs = ", ".join(_typed(name, graph) for name in graph.inputs)
    outputs = ", ".join(f"{quoted(name)} = %{quoted(value)}" for name, value in graph.outputs)
    yield f"{indent}{head}({inputs}) -> ({outputs})"
    inner = indent + INDENT
    for name, value in graph.constants.items():
        yield f"{inner}constant {_typed(name, graph)} = {_constant(value)}"
    for node in graph.nodes:
        made = ", ".join(_typed(name, graph) for name in node.outputs)
        read = ", ".join(f"%{quoted(name)}" if name else "_" for name in node.inputs)
        facts = ", ".join(f"{name}={attribute_text(value)}" for name, value in node.attributes)
        origin = f"  // from {', '.join(map(quoted, node.origin))}" if node.origin else ""
        yield f"{inner}{made} = {node.op}({read})" + (f" {{{facts}}}" if facts else "") + origin
        if node.body is not None:
            yield from _lines(node.body, f"body {quoted(node.body.name)}", inner + INDENT)


def quoted(name: str) -> str:
    """A name as it stands in a dump: bare when it is plain, else a JSON string."""
    plain = name.replace("_", "a").replace(".", "a").replace("/", "a").replace("-", "a")
    is_bare = plain.isascii() and plain.isalnum()
    return name if is_bare else json.dumps(name)


def _typed(name: str, graph: Graph) -> str:
    return f"%{quoted(name)}: {graph.types[name]}"


def _constant(value: Array) -> str:
    data = np.ascontiguousarray(value).tobytes()
    if len(data) <= WRITTEN_OUT_BYTES:
        return f"0x{data.hex()}"
    return f"{DIGEST_MARK}{hashlib.sha256(data).hexdigest()}"


def attribute_text(value: Attribute) -> str:
    """An attribute as text: JSON for what JSON has, floats exactly, maps as arrows with their shapes."""
    match value:
        case IndexMap():
            return f"map<{_shape(value.shape)} from {_shape(value.source)}>{value}"
        case tuple():
            return f"[{', '.join(attribute_text(one) for one in value)}]"
        case float():
            return f"{value!r}f"
        case _:
            return json.dumps(value)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def write_graph(graph: Graph, path: Path) -> None:
    """Write the text to `path`, and the longer constants, of bodies too, to a folder beside it."""
    pool = path.parent / CONSTANTS_FOLDER
    pool.mkdir(parents=True, exist_ok=True)
    path.write_text(show(graph), encoding="utf-8")
    for value, digest in _long_constants(graph):
        file = pool / digest
        if not file.exists():
            file.write_bytes(np.ascontiguousarray(value).tobytes())


def _long_constants(graph: Graph) -> Iterator[tuple[Array, str]]:
    for value in graph.constants.values():
        text = _constant(value)
        if text.startswith(DIGEST_MARK):
            yield value, text.removeprefix(DIGEST_MARK)
    for node in graph.nodes:
        if node.body is not None:
            yield from _long_constants(node.body)


def constant_from(text: str, one: TensorType, pool: Path | None) -> Array:
    """The array that `text` tells; raises `CompileError` for one whose file is missing or altered."""
    digest = text.removeprefix(DIGEST_MARK)
    data = bytes.fromhex(text[2:]) if text.startswith("0x") else _stored(digest, pool)
    if len(data) != one.byte_count:
        raise CompileError(f"a constant of {len(data)} bytes where {one} has {one.byte_count}")
    return np.frombuffer(data, one.dtype.numpy).reshape(one.shape)


def _stored(digest: str, pool: Path | None) -> bytes:
    file = pool / digest if pool else None
    if file is None or not file.is_file():
        hint = f"the folder {CONSTANTS_FOLDER} of the same dump belongs beside it"
        raise CompileError(f"the constant {digest[:12]}… is missing", where=str(file or "text"), hint=hint)
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise CompileError("the constant was altered after the dump", where=str(file))
    return data
