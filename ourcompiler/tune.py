"""Searching how products are cut, by measuring on this machine: each against the usual way, in turn.

The search goes along one parameter after another (coordinate descent, as in ATLAS): tiles first, the best few
by the model of `choose_tile`, then parts of the depth, the size of blocks, fetching ahead. What wins in the
end is measured once more for longer, and is kept only when it is faster beyond what chance can explain.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import median

import numpy as np

from ourcompiler import package
from ourcompiler.codegen.contraction import Tile, tiles_by_cycles
from ourcompiler.errors import CompileError
from ourcompiler.fusion_profile import drawn_numbers, graph_of, interleaved
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.products import Product, products
from ourcompiler.program import make_program
from ourcompiler.runtime.session import Session
from ourcompiler.storage import Storage
from ourcompiler.targets import Target, runnable_here
from ourcompiler.tilings import TEMPLATE, Entries, Found, Key, Problem, Tiling, Tilings, merged

TILES = 6
"""Tiles that are tried: the model is right about most of them being worse."""
PANEL_BYTES = (12_288, 24_576, 65_536, 131_072, 1 << 24)
"""Parts of the depth by the bytes of a panel, up to none at all."""
CACHE_SHARES = (0.5, 2.0)
LOOK_SECONDS, PROOF_SECONDS = 0.15, 0.6
LEAST_GAIN = 0.02
"""A tiling that gains less is not worth a line in a file: the next compiler version may turn it round."""
SURE = 1.96
MOST_ERROR = 1e-4
"""Relative L2 difference between two ways of adding up the same products in float32."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a search did: products, how many of them were known already, were searched; what was found."""

    products: int
    known: int
    searched: int
    failed: int
    entries: Entries


def tune(
    graph: Graph,
    target: Target,
    storages: Mapping[str, Storage],
    *,
    chip: str,
    seconds: float,
    known: Entries,
    threads: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Search a planned graph's products for at most about `seconds`, those with most work first; what is
    known is not searched again. Each gets its share of the time by its work; the result has what was known
    too.

    Raises `CompileError` for a target that does not run here.
    """
    if target.name not in runnable_here():
        raise CompileError(
            f"code for {target.name} cannot be measured here",
            where="--tune",
            hint=f"one of {', '.join(runnable_here())}",
        )
    plain = replace(target, tilings=Tilings())
    every = products(graph, plain, storages)
    new = [one for one in every if _key(one.problem, chip, target) not in known]
    found: dict[Key, Found] = {}
    stop, searched, failed = time.monotonic() + seconds, 0, 0
    for number, one in enumerate(new):
        left = stop - time.monotonic()
        if left <= 0:
            break
        rest = sum(each.count * each.multiplies for each in new[number:])
        share = left * max(one.count * one.multiplies / rest, 1 / len(new))
        try:
            best = search(graph, one, plain, storages, seconds=share, threads=threads)
        except Exception as error:  # whatever a kernel that nobody asked for before raises
            failed += 1
            say(f"not searched: {one.problem}: {type(error).__name__}: {error}")
            continue
        if best is None:
            say(f"not enough time: {one.problem}")
            continue
        searched += 1
        found[_key(one.problem, chip, target)] = best
        gain = "as usual" if best.tiling == one.tiling else f"{best.ratio:.3f} of the usual time"
        say(f"{one.count} × ({one.problem}): {best.tiling}: {gain}")
    return Result(len(every), len(every) - len(new), searched, failed, merged([known, found]))


def _key(problem: Problem, chip: str, target: Target) -> Key:
    return Key(chip, target.name, TEMPLATE, problem)


def search(
    graph: Graph,
    product: Product,
    target: Target,
    storages: Mapping[str, Storage],
    *,
    seconds: float,
    threads: int = 1,
) -> Found | None:
    """The best tiling that could be found in the time; the usual one (ratio 1) where no other is better, None
    where there was no time to know.
    """
    stop = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="ours-tune-") as folder, ExitStack() as stack:
        bench = _Bench(graph, product, target, storages, Path(folder), threads, stack)
        best, is_whole = _descend(bench, product, target, stop)
        ratios = bench.ratios(best, product.tiling, PROOF_SECONDS) if best != product.tiling else []
        if ratios and upper_end(ratios) <= 1 - LEAST_GAIN:
            return Found(best, median(ratios), len(ratios))
        return Found(product.tiling, 1.0, max(len(ratios), 1)) if is_whole else None


def _descend(bench: "_Bench", product: Product, target: Target, stop: float) -> tuple[Tiling, bool]:
    """The best tiling by short looks, and whether there was time for all of them."""
    best = product.tiling
    for step in STEPS:
        rated = [(1.0, best)]
        for candidate in step(best, product, target):
            if time.monotonic() >= stop:
                return min(rated)[1], False
            ratios = bench.ratios(candidate, best, LOOK_SECONDS)
            if ratios:
                rated.append((median(ratios), candidate))
        best = min(rated)[1]
    return best, True


def upper_end(ratios: Sequence[float]) -> float:
    """Upper end of the 95 % interval of the median, from order statistics: no shape is assumed."""
    ordered = sorted(ratios)
    place = len(ordered) / 2 + SURE * sqrt(len(ordered)) / 2
    return ordered[min(len(ordered) - 1, round(place))]


def _tiles(best: Tiling, product: Product, target: Target) -> Iterator[Tiling]:
    problem = product.problem
    ranked = tiles_by_cycles(problem.rows, problem.columns, target.lanes, target.registers)
    for tile in _distinct(ranked, problem)[:TILES]:
        if (tile.rows, tile.vectors) != (best.tile_rows, best.tile_vectors):
            yield replace(best, tile_rows=tile.rows, tile_vectors=tile.vectors)


def _distinct(ranked: Sequence[Tile], problem: Problem) -> list[Tile]:
    """Without tiles that are larger than the product: they are the same as the largest that is not."""
    return [tile for tile in ranked if tile.rows <= problem.rows] or list(ranked[:1])


def _panels(best: Tiling, product: Product, target: Target) -> Iterator[Tiling]:
    for size in PANEL_BYTES:
        if size != best.panel_bytes:
            yield replace(best, panel_bytes=size)


def _caches(best: Tiling, product: Product, target: Target) -> Iterator[Tiling]:
    for share in CACHE_SHARES:
        yield replace(best, cache_bytes=int(best.cache_bytes * share))


def _fetching(best: Tiling, product: Product, target: Target) -> Iterator[Tiling]:
    if product.problem.right == "known":
        yield replace(best, fetches=not best.fetches)


STEPS: tuple[Callable[[Tiling, Product, Target], Iterator[Tiling]], ...] = (
    _tiles,
    _panels,
    _caches,
    _fetching,
)
"""What is varied, one after another."""


class _Bench:
    """One product's kernel, compiled with any tiling, once each."""

    def __init__(
        self,
        graph: Graph,
        product: Product,
        target: Target,
        storages: Mapping[str, Storage],
        folder: Path,
        threads: int,
        stack: ExitStack,
    ) -> None:
        self._product, self._target, self._threads = product, target, threads
        self._folder, self._stack = folder, stack
        node = product.node
        assert node.body is not None
        constants = {name: graph.constants[name] for name in node.inputs if name in graph.constants}
        self._graph = graph_of([node.body], constants)
        kept = {name: storages[name] for name in (*node.inputs, *node.outputs) if name in storages}
        self._storages = {
            name: one for name, one in kept.items() if one.count == self._graph.types[name].element_count
        }
        self._sessions: dict[str, tuple[Session, Mapping[str, Array]]] = {}

    def ratios(self, candidate: Tiling, other: Tiling, seconds: float) -> list[float]:
        """Time of the candidate ÷ time of the other, round by round; none where it is the same code. Raises
        `CompileError` when the two do not give the same results.
        """
        first, second = self._session(candidate), self._session(other)
        if first[0] is second[0]:
            return []
        for one, another in zip(first[1].values(), second[1].values(), strict=True):
            difference = float(np.linalg.norm(one - another)) / max(float(np.linalg.norm(another)), 1e-30)
            if difference > MOST_ERROR:
                raise CompileError(
                    f"{candidate} is off by {difference:.1e}", where=str(self._product.problem)
                )
        one_ns, other_ns = interleaved([first[0].execute, second[0].execute], seconds)
        return [mine / usual for mine, usual in zip(one_ns, other_ns, strict=True)]

    def _session(self, tiling: Tiling) -> tuple[Session, Mapping[str, Array]]:
        """Compiled and run once; two tilings that give the same kernel share it."""
        target = replace(self._target, tilings=Tilings(((self._product.problem, tiling),)))
        program = make_program(self._graph, target, self._storages)
        (name,) = program.kernels
        if name not in self._sessions:
            built = package.write(program, self._folder / name)
            session = self._stack.enter_context(Session(built, threads=self._threads))
            session.set_inputs(drawn_numbers(self._graph))
            session.execute()
            results = {one: value.astype(np.float64) for one, value in session.outputs().items()}
            self._sessions[name] = session, results
        return self._sessions[name]
