"""Layers that carry a state from call to call: linear attention, unrolled, and the causal convolution."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from ourcompiler.ir.graph import Attribute
from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.recurrent import LONGEST, TOO_LONG
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.onnx_in.value import Value, constant, joined, names, operand, optional

QUERY, KEY, VALUE, PAST, DECAY, BETA = range(6)
NEEDS = {"linear": (), "gated": (DECAY,), "delta": (BETA,), "gated_delta": (DECAY, BETA)}
"""What each rule of the update reads besides."""


def _linear_attention(site: Site) -> Sequence[str]:
    """A state (batch, heads, key size, value size) to which every step adds key ⊗ value."""
    rule = site.attribute("update_rule", "gated_delta")
    if rule not in NEEDS or any(site.has(one) != (one in NEEDS[rule]) for one in (DECAY, BETA)):
        raise site.error(f"the rule {rule!r} with these operands", f"there are {', '.join(NEEDS)}")
    shared, count = site.attribute("kv_num_heads", 0), site.attribute("q_num_heads", 0)
    if not shared or not count or count % shared:
        raise site.error(f"{count} heads share {shared} of keys and values", "the first is a multiple")
    query, key, value = (
        _heads(operand(site, place), heads)
        for place, heads in ((QUERY, count), (KEY, shared), (VALUE, shared))
    )
    batch, _, steps, size = key.shape
    if not 0 < steps <= LONGEST:
        raise site.error(f"a sequence of {steps} steps, of which {LONGEST} are unrolled", TOO_LONG)
    query = query * (site.attribute("scale", 0.0) or 1 / sqrt(size))
    past = optional(site, PAST)
    if past is None:
        state = constant(site, np.zeros((batch, shared, size, value.shape[3]), np.float32))
    else:
        state = past.cast(DType.F32)
    found = []
    for step in range(steps):
        state = _updated(site, state, key.part(2, step, step + 1), value.part(2, step, step + 1), step)
        seen = state if count == shared else state.take(1, np.arange(count) // (count // shared))
        found.append(query.part(2, step, step + 1) @ seen)
    whole = joined(found, 2).swapped(1, 2).reshape(batch, steps, count * value.shape[3])
    dtype = site.type(QUERY).dtype
    return names(whole.cast(dtype), state.cast(dtype if past is None else past.dtype))


def _heads(x: Value, count: int) -> Value:
    """(batch, steps, heads · size) becomes (batch, heads, steps, size), in float32."""
    if x.rank != 3 or x.shape[2] % count:
        raise x.site.error(f"an operand of {x.shape} for {count} heads", "3 axes, and the last is a multiple")
    wide = x.reshape(*x.shape[:2], count, x.shape[2] // count).swapped(1, 2)
    return wide.cast(DType.F32)


def _updated(site: Site, state: Value, key: Value, value: Value, step: int) -> Value:
    """The state after one step, whose key and value are (batch, heads, 1, size)."""
    if site.has(DECAY):
        decay = operand(site, DECAY).part(1, step, step + 1)
        state = state * _heads(decay, state.shape[1]).swapped(2, 3).apply("Exp")
    if site.has(BETA):
        beta = operand(site, BETA).part(1, step, step + 1)
        value = (value - key @ state) * _heads(beta, beta.shape[2])
    return state + key.swapped(2, 3) * value


def _causal_conv(site: Site) -> Sequence[str]:
    """Every channel by itself, over what came before; the last elements are handed on."""
    x, weight, past = operand(site, 0), operand(site, 1), optional(site, 3)
    if x.rank != 3 or weight.rank != 3:
        raise site.error(f"an operand of {x.shape} and weights of {weight.shape}", "both have 3 axes")
    reach = weight.shape[2] - 1
    wide = x.pad(2, reach, 0) if past is None else joined([past, x], 2)
    facts: dict[str, Attribute] = {
        "strides": (1,),
        "dilations": (1,),
        "pads": (0, 0),
        "group": x.shape[1],
    }
    operands = (wide.name, weight.name, site.operand_or_absent(2))
    found = Value(site, site.emit("Conv", operands, **facts))
    activation = site.attribute("activation", "none")
    if activation in ("silu", "swish"):
        found = found.apply("Swish", alpha=1.0)
    elif activation != "none":
        raise site.error(f"the activation {activation!r}", "there are none, silu, swish")
    return names(found, wide.part(2, wide.shape[2] - reach, wide.shape[2]))


ROWS: dict[str, Convert] = {"LinearAttention": _linear_attention, "CausalConvWithState": _causal_conv}
