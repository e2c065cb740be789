"""Applies rules until none fits. Every application lowers the cost, so there is an end; a list of nodes to
look at again, kept in the order of the graph, makes it deterministic and about linear.
"""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

from ourcompiler.ir.graph import Array, Graph, Node
from ourcompiler.ir.text import attribute_text
from ourcompiler.ir.types import DType
from ourcompiler.rewrite.cost import total
from ourcompiler.rewrite.network import Network
from ourcompiler.rewrite.rule import Family, Replaced, Rule
from ourcompiler.rewrite.site import MisfitError, Site


@dataclass(frozen=True, slots=True)
class Application:
    """One rule applied once: the ONNX nodes concerned, and the rows before and after."""

    rule: str
    origin: tuple[str, ...]
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.rule}: {', '.join(self.origin)}\n    {self.before}\n  → {self.after}"


Trace = list[Application]

NARROW = frozenset({DType.F16, DType.BF16})
EXACT = frozenset({Family.FOLD, Family.IDENTITY, Family.MOVEMENT})
"""Families whose rules round nothing in another place. In half precision each rounding is a part of what a
network computes: two steps of bfloat16 are already a percent.
"""


def apply_rules(graph: Graph, rules: Sequence[Rule], trace: Trace | None = None) -> Graph:
    """The graph after all rules, in the order in which they stand; what was applied is added to `trace`."""
    engine = Engine(Network(graph), rules, trace)
    engine.run()
    return engine.network.result()


@dataclass
class Engine:
    """The network, the rules, and the nodes that are still to be looked at."""

    network: Network
    rules: Sequence[Rule]
    trace: Trace | None = None
    _waiting: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    _is_waiting: set[str] = field(default_factory=set)
    _by_op: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    _serial: Iterator[int] = field(default_factory=lambda: count(1))
    _depth: int = 0

    def run(self) -> None:
        """Look at every node, and again at those near a change."""
        self._depth = max((rule.depth for rule in self.rules), default=0)
        self._look_at(self.network.nodes)
        while self._waiting:
            _, key = heappop(self._waiting)
            if key in self._is_waiting:
                self._is_waiting.discard(key)
                if key in self.network.nodes:
                    self._visit(self.network.nodes[key])

    def _look_at(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self.network.nodes and key not in self._is_waiting:
                self._is_waiting.add(key)
                heappush(self._waiting, (self.network.places[key], key))

    def _rules_for(self, op: str) -> tuple[Rule, ...]:
        if op not in self._by_op:
            self._by_op[op] = tuple(rule for rule in self.rules if rule.roots is None or op in rule.roots)
        return self._by_op[op]

    def _visit(self, node: Node) -> None:
        """Apply the first rule that fits."""
        is_narrow = self.network.types[node.output].dtype in NARROW
        for rule in self._rules_for(node.op):
            if is_narrow and rule.family not in EXACT:
                continue
            site = Site(self.network, node)
            try:
                replaced = rule.apply(site)
            except MisfitError:
                continue
            if replaced and self._fits(site, replaced):
                dead = self._dead(site, replaced)
                if dead:
                    self._accept(rule, site, replaced, dead)
                    return

    def _fits(self, site: Site, replaced: Replaced) -> bool:
        """Whether types stay, and nothing of the draft reads what it replaces."""
        _keep_needed(site, replaced)
        if any(site.type(new) != self.network.types[old] or old == new for old, new in replaced.items()):
            return False
        return not any(name in replaced for node in site.drafted for name in node.operands)

    def _dead(self, site: Site, replaced: Replaced) -> list[Node]:
        """The nodes that go, last first; none when the draft is not cheaper than they are."""
        needed = {name for node in site.drafted for name in node.operands}
        dead = self.network.dying(replaced, needed)
        types = ChainMap(site.types, self.network.types)
        known: Mapping[str, Array] = ChainMap(site.made, self.network.constants)
        is_cheaper = total(site.drafted, types, known) < total(dead, types, known)
        return dead if is_cheaper else []

    def _accept(self, rule: Rule, site: Site, replaced: Replaced, dead: Sequence[Node]) -> None:
        network = self.network
        origin = tuple(dict.fromkeys(name for node in reversed(dead) for name in node.origin))
        before = "; ".join(show_node(node) for node in reversed(dead)) if self.trace is not None else ""
        place = network.places[site.node.output]
        touched = [name for node in dead for name in node.operands]
        gone = {name for node in dead for name in node.outputs}
        for node in dead:
            network.remove(node.output)
        names = self._names(site, replaced, gone)
        drafted = [_renamed(node, names, origin) for node in site.drafted]
        for node in drafted:
            network.insert(node, (place[0], next(self._serial)))
        readers = [key for old in replaced for key in network.readers.get(old, ())]
        for old, new in replaced.items():
            if names.get(new, new) != old:
                network.rewire(old, names.get(new, new))
        news = [names.get(new, new) for new in replaced.values()]
        if not drafted:
            network.with_origin(self._heirs(news, readers), origin)
        if self.trace is not None:
            after = "; ".join(map(show_node, drafted)) or ", ".join(f"%{name}" for name in news)
            self.trace.append(Application(rule.name, origin, before, after))
        self._look_at([site.node.output, *(node.output for node in drafted), *readers])
        self._look_again([*readers, *(node.output for node in drafted)], touched)

    def _names(self, site: Site, replaced: Replaced, gone: set[str]) -> dict[str, str]:
        """Names of the network for what the draft made: a value that takes another's place takes its name."""
        network, names = self.network, {}
        outputs = {name for node in site.drafted for name in node.outputs}
        for old, new in replaced.items():
            if new in outputs and new not in names and old in gone:
                names[new] = old
        hint = next(iter(replaced))
        used = {name for node in site.drafted for name in node.operands} | set(replaced.values())
        for name, array in site.made.items():
            if name in used:
                names[name] = network.constant(array, f"{hint}.known")
        for node in site.drafted:
            for name in node.outputs:
                if name not in names:
                    names[name] = network.fresh(hint)
                    network.types[names[name]] = site.types[name]
        return names

    def _heirs(self, values: Iterable[str], readers: Iterable[str]) -> list[str]:
        """The nodes that stand for what was dropped: who makes the values now, or else who read them."""
        makers = [self.network.makers.get(value) for value in values]
        found = [*readers] if None in makers else [one for one in makers if one is not None]
        return list(dict.fromkeys(found))

    def _look_again(self, keys: Iterable[str], touched: Iterable[str]) -> None:
        """Below the nodes that changed, as far as a rule looks up, and where a value has one reader left."""
        network = self.network
        nodes = [network.nodes[key] for key in dict.fromkeys(keys) if key in network.nodes]
        single = [
            one for one in dict.fromkeys(touched) if one in network.makers and network.read_count(one) == 1
        ]
        changed = [name for node in nodes for name in node.outputs]
        self._look_at(list(network.below([*changed, *single], self._depth)))


def _keep_needed(site: Site, replaced: Replaced) -> None:
    """Drop from the draft what nothing of it uses."""
    needed = set(replaced.values())
    kept = []
    for node in reversed(site.drafted):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.operands)
    site.drafted[:] = reversed(kept)


def _renamed(node: Node, names: Mapping[str, str], origin: tuple[str, ...]) -> Node:
    return replace(
        node,
        inputs=tuple(names.get(one, one) for one in node.inputs),
        outputs=tuple(names[one] for one in node.outputs),
        origin=origin,
    )


def show_node(node: Node) -> str:
    """The node as in a dump, without types."""
    read = ", ".join(f"%{name}" if name else "_" for name in node.inputs)
    facts = ", ".join(f"{name}={attribute_text(value)}" for name, value in node.attributes)
    made = ", ".join(f"%{name}" for name in node.outputs)
    return f"{made} = {node.op}({read})" + (f" {{{facts}}}" if facts else "")
