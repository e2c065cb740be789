"""Which layers there are, what they are made of, and which of them a framework needs: `layers.toml`."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adapters.framework import VARIANT_MARK
from benchsuite.device.debian import Pins, read_pins
from models.errors import BenchError
from models.suggest import nearest

TABLE = Path(__file__).parent / "layers.toml"
BASE, CODE = "base", "code"
"""The loader, its libraries and Python; the code of bench itself."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of PyPI for the phone's Python: exact version, sha256 of the file."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LayerTable:
    """`frameworks` tells the layers of each, without base and code; `refused` why others cannot run."""

    python: str
    debian: Pins
    wheels: Mapping[str, tuple[Wheel, ...]]
    frameworks: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str]


@cache
def layer_table() -> LayerTable:
    """Read `layers.toml`."""
    values = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return LayerTable(
        python=values["python"],
        debian=read_pins(TABLE),
        wheels={
            layer: tuple(Wheel(name, version, digest) for name, (version, digest) in rows.items())
            for layer, rows in values["wheel"].items()
        },
        frameworks={name: tuple(layers) for name, layers in values["frameworks"].items()},
        refused=values["refused"],
    )


def refusal(framework: str) -> str | None:
    """Why a framework (or a variant of it) cannot run on a phone, or None."""
    base = framework.partition(VARIANT_MARK)[0]
    table = layer_table()
    if base in table.frameworks:
        return None
    return table.refused.get(base, f"no runtime for a phone is known for {base}")


def layers_of(frameworks: Sequence[str]) -> tuple[str, ...]:
    """The layers that frameworks need, the lowest first; raises `BenchError` for one that cannot run."""
    table = layer_table()
    needed: dict[str, None] = {BASE: None}
    for framework in frameworks:
        reason = refusal(framework)
        if reason is not None:
            known = [*table.frameworks, *table.refused]
            hint = f"one of {', '.join(table.frameworks)}"
            if framework.partition(VARIANT_MARK)[0] not in table.refused:
                hint = nearest(framework, known, otherwise=hint)
            raise BenchError(
                f"{framework} does not run on a phone: {reason}", where="--frameworks", hint=hint
            )
        needed |= dict.fromkeys(table.frameworks[framework.partition(VARIANT_MARK)[0]])
    return (*needed, CODE)


def wheel_version(distribution: str, layers: Sequence[str]) -> str | None:
    """The version of a distribution in these layers; None when they do not hold it."""
    wanted = re.sub(r"[-_.]+", "-", distribution).lower()
    wheels = [wheel for layer in layers for wheel in layer_table().wheels.get(layer, ())]
    return next((one.version for one in wheels if one.name == wanted), None)
