"""Which ONNX nodes each fused kernel computes: followed through TVM's fusion, argument by argument."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.tvm_import import NODE_MARK, Nodes


def kernels_of(before: Any, after: Any, nodes: Nodes) -> list[dict[str, Any]]:
    """`name` and `nodes` of every kernel call of `after` (fused), in order of execution.

    `before` is the module that was fused, whose variables still have their nodes' names. The two graphs are
    the same but for the fusion, so walking both from their outputs finds for each fused call the variable
    that it computes, and inside it one call for each that was merged.
    """
    old, new = _Graph(before["main"]), _Graph(after["main"])
    pairs = _match(after, old, new)
    owners = _owners(old, nodes.outputs)
    kernels = []
    for variable, call in new.calls():
        members = pairs.get(variable, ())
        numbers = sorted({number for member in members for number in owners.get(member, ())})
        kernels.append({"name": _callee(call), "nodes": [nodes.names[number] for number in numbers]})
    return kernels


class _Graph:
    """The bindings of a function by variable."""

    def __init__(self, function: Any) -> None:
        from tvm import relax

        rows = [row for block in function.body.blocks for row in block.bindings]
        self.values = {row.var: row.value for row in rows if isinstance(row, relax.VarBinding)}
        self.order = [row.var for row in rows if isinstance(row, relax.VarBinding)]
        self.result = self.resolve(function.body.body)

    def resolve(self, value: Any) -> Any:
        """Through names that stand for other names, to the variable of a call, a parameter or a tuple."""
        from tvm import relax

        while isinstance(value, relax.Var) and isinstance(self.values.get(value), relax.Var):
            value = self.values[value]
        if isinstance(value, relax.Var) and isinstance(self.values.get(value), relax.Tuple):
            return self.values[value]
        return value

    def calls(self) -> list[tuple[Any, Any]]:
        """Variables that a call makes, in order."""
        from tvm import relax

        return [(name, self.values[name]) for name in self.order if isinstance(self.values[name], relax.Call)]


def _callee(call: Any) -> str:
    from tvm import ir

    if isinstance(call.op, ir.GlobalVar):
        return str(call.op.name_hint)
    first = call.args[0] if call.args else None
    return str(first.name_hint) if isinstance(first, ir.GlobalVar) else str(getattr(call.op, "name", "?"))


def _operands(call: Any) -> list[Any]:
    """The tensors that a call reads: those of the tuple of a `call_tir`, else its arguments."""
    from tvm import ir, relax

    if call.args and isinstance(call.args[0], ir.GlobalVar) and isinstance(call.args[1], relax.Tuple):
        return list(call.args[1].fields)
    return list(call.args)


def _match(after: Any, old: _Graph, new: _Graph) -> dict[Any, tuple[Any, ...]]:
    """For each variable of a call in `new` the variables of `old` that it computes."""
    from tvm import ir, relax

    pairs: dict[Any, tuple[Any, ...]] = {}
    waiting = [(new.result, old.result)]
    while waiting:
        fused, plain = waiting.pop()
        fused, plain = new.resolve(fused), old.resolve(plain)
        if isinstance(fused, relax.Tuple) and isinstance(plain, relax.Tuple):
            waiting.extend(zip(fused.fields, plain.fields, strict=True))
            continue
        call, source = new.values.get(fused), old.values.get(plain)
        if isinstance(call, relax.TupleGetItem) and isinstance(source, relax.TupleGetItem):
            waiting.append((call.tuple_value, source.tuple_value))
            continue
        if not isinstance(call, relax.Call) or not isinstance(source, relax.Call) or fused in pairs:
            continue
        body = after[call.op] if isinstance(call.op, ir.GlobalVar) else None
        if isinstance(body, relax.Function):
            inner = _Graph(body)
            members, reached = _inside(inner, inner.result, plain, old)
            pairs[fused] = tuple(members)
            actual = dict(zip(body.params, call.args, strict=True))
            waiting.extend((actual[parameter], variable) for parameter, variable in reached)
        else:
            pairs[fused] = (plain,)
            waiting.extend(zip(_operands(call), _operands(source), strict=True))
    return pairs


def _inside(inner: _Graph, result: Any, plain: Any, old: _Graph) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """Walk a fused function beside the graph it came from: members, and what its parameters stand for."""
    from tvm import relax

    members: list[Any] = []
    reached: list[tuple[Any, Any]] = []
    waiting, seen = [(result, plain)], set()
    while waiting:
        value, variable = waiting.pop()
        value, variable = inner.resolve(value), old.resolve(variable)
        if not isinstance(value, relax.Var) or value in seen:
            continue
        seen.add(value)
        call, source = inner.values.get(value), old.values.get(variable)
        if call is None:
            reached.append((value, variable))
        elif isinstance(call, relax.Call) and isinstance(source, relax.Call):
            members.append(variable)
            waiting.extend(zip(_operands(call), _operands(source), strict=True))
        elif isinstance(call, relax.TupleGetItem) and isinstance(source, relax.TupleGetItem):
            waiting.append((call.tuple_value, source.tuple_value))
    return members, reached


def _owners(graph: _Graph, outputs: Sequence[int]) -> Mapping[Any, frozenset[int]]:
    """The nodes of each variable: its own name's, or those of what reads it (a convolution whose bias is
    added by a call of its own); none for a transpose that TVM put in. `outputs` are the nodes of the results,
    which TVM gives names of its own.
    """
    from tvm import relax

    results = graph.result.fields if isinstance(graph.result, relax.Tuple) else [graph.result]
    made = {graph.resolve(value): node for value, node in zip(results, outputs, strict=True) if node >= 0}
    readers: dict[Any, list[Any]] = {}
    for variable, call in graph.calls():
        for operand in _operands(call):
            readers.setdefault(graph.resolve(operand), []).append(variable)
    owners: dict[Any, frozenset[int]] = {}
    for variable, call in reversed(graph.calls()):
        name = str(variable.name)
        if name.startswith(NODE_MARK):
            owners[variable] = frozenset({int(name.removeprefix(NODE_MARK).partition("_")[0])})
        elif variable in made and not _callee(call).startswith("transpose"):
            owners[variable] = frozenset({made[variable]})
        elif _callee(call).startswith("transpose"):
            owners[variable] = frozenset()
        else:
            found = [owners.get(reader, frozenset()) for reader in readers.get(variable, ())]
            owners[variable] = frozenset().union(*found[:1])
    return owners
