"""Pooling: the greatest, the mean or the norm of a sliding window; and over everything spatial."""

from collections.abc import Callable

import numpy as np

from ourcompiler.ir.graph import Array, Attribute
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.reduce import operand
from ourcompiler.ops.table import (
    Arrays,
    Facts,
    LayoutClass,
    Mapping5,
    OpDef,
    Sample,
    Template,
    Types,
    f32,
    given,
)
from ourcompiler.ops.window import bordered, check_window, output_sizes, shifted, span, taps


def _infer(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    image = given(types, 0)
    if image.rank < 3 or len(facts["kernel"]) != image.rank - 2:
        raise ValueError(f"a window of {tuple(facts['kernel'])} on {image.shape}")
    check_window(image.rank - 2, facts)
    if min(facts["kernel"]) < 1 or facts.get("p", 1) < 1:
        raise ValueError(f"a window of {tuple(facts['kernel'])}, a norm of order {facts.get('p', 1)}")
    sizes = output_sizes(image.shape[2:], facts["kernel"], facts)
    return (TensorType(image.dtype, (*image.shape[:2], *sizes)),)


def _infer_max(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    (values,) = _infer(types, facts)
    return (values, TensorType(DType.I64, values.shape)) if facts["with_places"] else (values,)


def _windows(x: Array, facts: Facts, fill: float) -> list[Array]:
    """What each place of the window sees, from the first to the last."""
    out = output_sizes(x.shape[2:], facts["kernel"], facts)
    return _seen(bordered(x, facts, fill, extra=_extra(facts)), out, facts)


def _extra(facts: Facts) -> int:
    """How far a last window may reach beyond the border."""
    reach = [span(size, step) for size, step in zip(facts["kernel"], facts["dilations"], strict=True)]
    return max(reach) + max(int(stride) for stride in facts["strides"])


def _seen(image: Array, out: tuple[int, ...], facts: Facts) -> list[Array]:
    return [shifted(image, tap, out, facts) for tap in taps(facts["kernel"])]


def _max(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x = operand(arrays)
    least = -np.inf if x.dtype.kind in "fV" else np.iinfo(x.dtype).min
    values = np.stack(_windows(x, facts, least))
    found = values.max(axis=0)
    if not facts["with_places"]:
        return (found,)
    return found, _places(x, values, facts)


def _places(x: Array, values: Array, facts: Facts) -> Array:
    """Where in the whole operand each maximum stands; in column-major order of the image if asked for."""
    first = np.argmax(values, axis=0)
    spatial = x.shape[2:]
    count = np.arange(int(np.prod(spatial)))
    within: Array = count.reshape(spatial, order="F" if facts["column_major"] else "C")
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(spatial))
    numbers = (planes * within.size + within).astype(np.float64)
    seen = np.stack(_windows(numbers, facts, -1.0))
    found: Array = np.take_along_axis(seen, first[None], 0)[0].astype(np.int64)
    return found


def _mean(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x = operand(arrays)
    wide = x.astype(np.float64)
    total = np.sum(_windows(wide, facts, 0.0), axis=0)
    out = output_sizes(x.shape[2:], facts["kernel"], facts)
    counted = bordered(np.ones_like(wide), facts, 1.0 if facts["count_border"] else 0.0)
    beyond = [(0, 0), (0, 0), *[(0, _extra(facts))] * (x.ndim - 2)]
    count = np.sum(_seen(np.pad(counted, beyond), out, facts), axis=0)
    with np.errstate(all="ignore"):
        return ((total / count).astype(x.dtype),)


def _norm(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, power = operand(arrays), facts["p"]
    total = np.sum(np.abs(_windows(x.astype(np.float64), facts, 0.0)) ** power, axis=0)
    return ((total ** (1 / power)).astype(x.dtype),)


def window_facts(
    kernel: tuple[int, ...], *, strides: int = 1, pads: int = 0, dilations: int = 1, ceil: bool = False
) -> dict[str, Attribute]:
    """Attributes that are the same along every spatial axis."""
    rank = len(kernel)
    return {
        "kernel": kernel,
        "strides": (strides,) * rank,
        "dilations": (dilations,) * rank,
        "pads": (pads,) * (2 * rank),
        "ceil": ceil,
    }


CASES = (
    (f32(1, 3, 8, 9), window_facts((3, 3), strides=2, pads=1)),
    (f32(2, 5, 7), window_facts((2,), strides=2, ceil=True)),
    (f32(1, 2, 9, 9), window_facts((3, 2), dilations=2)),
    (f32(1, 2, 4, 5, 6), window_facts((2, 2, 2), strides=2)),
    (f32(1, 33, 13, 13), window_facts((5, 5), pads=2)),
)


def _row(
    name: str,
    infer: Callable[[Types, Facts], tuple[TensorType, ...]],
    reference: Callable[[Arrays, Facts], tuple[Array, ...]],
    variants: tuple[dict[str, Attribute], ...],
) -> OpDef:
    samples = tuple(Sample((one,), {**facts, **more}) for one, facts in CASES for more in variants)
    return OpDef(
        name=name,
        mapping=Mapping5.MANY_TO_MANY,
        layout=LayoutClass.DEPENDENT_VARIABLE,
        infer=infer,
        reference=reference,
        code=Template("pool"),
        samples=samples,
        attributes=tuple(samples[0].facts),
    )


ROWS = (
    _row(
        "MaxPool",
        _infer_max,
        _max,
        ({"with_places": False, "column_major": False}, {"with_places": True, "column_major": False}),
    ),
    _row("AveragePool", _infer, _mean, ({"count_border": False}, {"count_border": True})),
    _row("LpPool", _infer, _norm, ({"p": 2},)),
)
