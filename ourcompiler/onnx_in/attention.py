"""Attention of the standard (opsets 23 to 25) and rotary positions: products, masks and softmax."""

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.index_map import roll
from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.site import Convert, Site, element_type
from ourcompiler.onnx_in.value import Value, constant, joined, names, operand, optional

Q, K, V, MASK, PAST_KEY, PAST_VALUE, LENGTHS = range(7)
RAW, CAPPED, MASKED, PROBABILITIES = range(4)
"""What the fourth output shows."""
LENGTHS_WITH_PAST = "key lengths belong to a cache outside, past keys to one inside: give one of them"


def _heads(x: Value, count: int | None) -> Value:
    """(batch, length, heads · size) becomes (batch, heads, length, size)."""
    if x.rank == 4:
        return x
    if x.rank != 3 or not count or x.shape[2] % count:
        hint = "operands of 3 axes need q_num_heads and kv_num_heads that divide the last axis"
        raise x.site.error(f"an operand of {x.shape} for {count} heads", hint)
    batch, length, size = x.shape
    return x.reshape(batch, length, count, size // count).swapped(1, 2)


def _attention(site: Site) -> Sequence[str]:
    query = _heads(operand(site, Q), site.attribute("q_num_heads"))
    key, value = (_heads(operand(site, one), site.attribute("kv_num_heads")) for one in (K, V))
    if not query.dtype.is_float:
        raise site.error(f"attention of {query.dtype.value}", "cast the operands to a type with fractions")
    past = site.type(PAST_KEY).shape[2] if site.has(PAST_KEY) else 0
    if site.has(PAST_KEY) != site.has(PAST_VALUE):
        raise site.error("past keys without past values, or the other way", "give both or neither")
    if site.has(PAST_KEY):
        if site.has(LENGTHS):
            raise site.error("past keys together with key lengths", LENGTHS_WITH_PAST)
        key = joined([operand(site, PAST_KEY), key], 2)
        value = joined([operand(site, PAST_VALUE), value], 2)
    bias, may_be_empty = _bias(query, key.shape[2], past)
    shown, found = _attended(query, key, value, bias, may_be_empty)
    if site.type(Q).rank == 3:
        batch, heads, length, size = found.shape
        found = found.swapped(1, 2).reshape(batch, length, heads * size)
    return names(found, key, value, shown)


def _attended(
    query: Value, key: Value, value: Value, bias: Value | None, may_be_empty: bool
) -> tuple[Value, Value]:
    """What the fourth output shows, and the result."""
    site, mode = query.site, query.site.attribute("qk_matmul_output_mode", RAW)
    scale = site.attribute("scale") or 1 / sqrt(query.shape[3])
    key, value = (_for_each_head(one, query.shape[1]) for one in (key, value))
    shown = scores = _scaled(query, key, scale)
    cap = site.attribute("softcap", 0.0)
    if cap > 0:
        scores = (scores / cap).apply("Tanh") * cap
    shown = scores if mode == CAPPED else shown
    scores = scores if bias is None else scores + bias
    shown = scores if mode == MASKED else shown
    precision = site.attribute("softmax_precision")
    exact = scores if precision is None else scores.cast(element_type(precision, site.where))
    found = exact.apply("Softmax", axis=3).cast(query.dtype)
    if bias is not None and may_be_empty:
        empty = bias.reduce("ReduceMax", (-1,)).equal(-inf)
        found = empty.choose(0.0, found)
    return (found if mode == PROBABILITIES else shown), found @ value


def _scaled(query: Value, key: Value, scale: float) -> Value:
    """The product, scaled: once, or for short floats on both sides, as the standard has it."""
    if query.dtype in (DType.F32, DType.F64):
        return (query * scale) @ key.swapped(2, 3)
    return (query * sqrt(scale)) @ (key.swapped(2, 3) * sqrt(scale))


def _for_each_head(x: Value, heads: int) -> Value:
    """Keys or values that several heads share, shown to each of them."""
    if x.shape[1] == heads:
        return x
    if heads % x.shape[1]:
        raise x.site.error(f"{heads} heads share {x.shape[1]} of keys and values", "the first is a multiple")
    return x.take(1, np.arange(heads) // (heads // x.shape[1]))


def _bias(query: Value, length: int, past: int) -> tuple[Value | None, bool]:
    """What is added to the scores, and whether there may be rows that may attend to nothing."""
    site = query.site
    conditions, numbers = [], None
    mask = optional(site, MASK)
    if mask is not None:
        short = length - mask.shape[-1]
        fill = 0.0 if mask.dtype is DType.BOOL else -inf
        mask = mask.pad(mask.rank - 1, 0, short, fill) if short > 0 else mask
        if mask.dtype is DType.BOOL:
            conditions.append(mask)
        else:
            numbers = mask.cast(query.dtype)
    fixed = None
    if site.has(LENGTHS):
        conditions += _for_lengths(operand(site, LENGTHS), query.shape[2], length)
    else:
        places = np.arange(query.shape[2])[:, None] + past - np.arange(length)
        fixed = _in_reach(site, places)
    if fixed is not None and not fixed.all():
        conditions.append(constant(site, fixed))
    may_be_empty = mask is not None or site.has(LENGTHS) or (fixed is not None and not fixed.any(1).all())
    return _added(query, conditions, numbers), may_be_empty


def _added(query: Value, conditions: Sequence[Value], numbers: Value | None) -> Value | None:
    """0 where every condition holds, −∞ elsewhere, and the numbers."""
    if not conditions:
        return numbers
    allowed = conditions[0]
    for one in conditions[1:]:
        allowed = allowed & one
    bias = allowed.choose(query.constant(0.0), -inf)
    return bias if numbers is None else numbers + bias


def _windows(site: Site) -> tuple[int, int]:
    """How far back and ahead a query sees; −1: without end."""
    left, right = site.attribute("left_window_size", -1), site.attribute("right_window_size", -1)
    if min(left, right) < -1:
        raise site.error(f"windows of {left} and {right}", "−1 means without end")
    ahead = right
    if site.attribute("is_causal", 0):
        ahead = 0
    return left, ahead


def _in_reach(site: Site, places: Array) -> Array:
    """Where a query may attend, from how far the key lies behind it."""
    left, right = _windows(site)
    found = np.ones(places.shape, bool)
    if left >= 0:
        found &= places <= left
    if right >= 0:
        found &= -places <= right
    return found


def _for_lengths(lengths: Value, queries: int, length: int) -> list[Value]:
    """The same for each of a batch, whose keys end at `lengths`: the last query stands at the last key."""
    ends = lengths.cast(DType.I64).reshape(lengths.type.element_count, 1, 1, 1)
    keys = ends.constant(np.arange(length).reshape(1, 1, 1, length))
    found = [keys.less(ends)]
    places = ends.constant(np.arange(queries).reshape(1, 1, queries, 1)) + (ends - queries)
    left, right = _windows(lengths.site)
    if right >= 0:
        found.append(keys.at_most(places + right))
    if left >= 0:
        found.append((places - left).at_most(keys))
    return found


def _rotary(site: Site) -> Sequence[str]:
    """Pairs of elements turned by the angle of their position."""
    x, cosine, sine = (operand(site, number) for number in range(3))
    if x.rank == 4:
        wide, heads = x, 1
    else:
        count = site.attribute("num_heads", 0)
        if x.rank != 3 or not count or x.shape[2] % count:
            raise site.error(f"an operand of {x.shape} for {count} heads", "num_heads divides its last axis")
        wide, heads = x.reshape(*x.shape[:2], count, x.shape[2] // count), 2
    size = site.attribute("rotary_embedding_dim", 0) or wide.shape[3]
    if size % 2 or size > wide.shape[3]:
        raise site.error(
            f"{size} of {wide.shape[3]} elements turned", "an even number, and no more than there are"
        )
    if site.has(3):
        cosine, sine = (one.apply("Gather", operand(site, 3), axis=0) for one in (cosine, sine))
    turned, rest = wide.part(3, 0, size), wide.part(3, size, wide.shape[3])
    found = _turned(turned, *(_for_positions(one, heads, size) for one in (cosine, sine)))
    if size < wide.shape[3]:
        found = joined([found, rest], 3)
    return names(found.reshape(*x.shape))


def _for_positions(x: Value, heads: int, size: int) -> Value:
    """(batch, length, size / 2), once for each element of a pair, and the same for every head."""
    half = size // 2
    if x.rank != 3 or x.shape[2] != half:
        raise x.site.error(f"cosines or sines of {x.shape}", f"their last axis is {half}")
    wide = x.reshape(x.shape[0], 1, *x.shape[1:]) if heads == 1 else x.reshape(*x.shape[:2], 1, half)
    if x.site.attribute("interleaved", 0):
        return wide.take(3, np.arange(size) // 2)
    return wide.apply("Tile", repeats=(1, 1, 1, 2))


def _turned(x: Value, cosine: Value, sine: Value) -> Value:
    """It · cos + partner · ±sin: nothing is taken apart and joined, so that it is one kernel."""
    size = x.shape[3]
    place = np.arange(size)
    if x.site.attribute("interleaved", 0):
        pairs = x.reshape(*x.shape[:3], size // 2, 2)
        partner = pairs.part(4, 1, -1, -1).reshape(*x.shape)
        sign = np.where(place % 2, 1, -1)
    else:
        partner = x.seen(roll(x.shape, 3, size // 2))
        sign = np.where(place < size // 2, -1, 1)
    return x * cosine + partner * (sine * sine.constant(sign))


ROWS: dict[str, Convert] = {"Attention": _attention, "RotaryEmbedding": _rotary}
