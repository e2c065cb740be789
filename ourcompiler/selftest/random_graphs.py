"""Graphs drawn at random from the operator table, to be compiled and compared with the reference.

Numbers stay near 1: what could grow without bound goes through a squashing operator first.
"""

from dataclasses import dataclass
from math import prod

from ourcompiler.ir.graph import Array, Graph
from ourcompiler.selftest.drawer import LARGEST, Drawer
from ourcompiler.selftest.random_blocks import BLOCKS
from ourcompiler.selftest.random_steps import STEPS

LEAST_STEPS, MOST_STEPS = 3, 12
BLOCKS_SHARE, RESULTS_SHARE = 0.3, 0.15


@dataclass(frozen=True)
class Drawn:
    """A graph and numbers for its inputs."""

    graph: Graph
    inputs: dict[str, Array]


def draw(seed: int) -> Drawn:
    """The graph of that number, the same in every run; the last value, and perhaps others, are results."""
    drawer = Drawer(seed)
    for _ in range(drawer.random.randint(LEAST_STEPS, MOST_STEPS)):
        steps = BLOCKS if drawer.random.random() < BLOCKS_SHARE else STEPS
        made = drawer.random.choice(steps)(drawer, drawer.pick())
        if made is not None and 0 < prod(drawer.of(made)) <= LARGEST:
            drawer.values.append(made)
    results = [one for one in drawer.values[:-1] if drawer.random.random() < RESULTS_SHARE]
    named = [(f"y{number}", name) for number, name in enumerate([drawer.values[-1], *results])]
    return Drawn(drawer.builder.graph(named), drawer.inputs())
