"""Elementwise operators of ONNX."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ourcompiler.onnx_in.site import Convert, Site, element_type

SAME = [
    "Abs",
    "Neg",
    "Sign",
    "Relu",
    "Identity",
    "Floor",
    "Ceil",
    "Round",
    "Sqrt",
    "Exp",
    "Log",
    "Sin",
    "Cos",
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Tanh",
    "Asinh",
    "Acosh",
    "Atanh",
    "Erf",
    "Reciprocal",
    "Sigmoid",
    "Not",
    "BitwiseNot",
    "IsNaN",
    "HardSwish",
    "Mish",
    "Softplus",
    "Softsign",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "And",
    "Or",
    "Xor",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Equal",
    "Less",
    "LessOrEqual",
    "Where",
]
"""Operators whose row has the same name, operands and meaning."""

WITH_ATTRIBUTES: dict[str, dict[str, float | int | str]] = {
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "Elu": {"alpha": 1.0},
    "Celu": {"alpha": 1.0},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Swish": {"alpha": 1.0},
    "Shrink": {"bias": 0.0, "lambd": 0.5},
    "Gelu": {"approximate": "none"},
}
"""The same, with the standard's defaults of their attributes."""


def _same(site: Site, op: str) -> Sequence[str]:
    return (site.emit(op, site.inputs),)


def _with_attributes(site: Site, op: str) -> Sequence[str]:
    facts = {name: site.attribute(name, usual) for name, usual in WITH_ATTRIBUTES[op].items()}
    return (site.emit(op, site.inputs, **facts),)


def _swapped(site: Site, op: str) -> Sequence[str]:
    """A > b is b < a."""
    return (site.emit(op, (site.operand(1), site.operand(0))),)


def _chain(site: Site, op: str) -> Sequence[str]:
    """Any number of operands, two at a time."""
    total = site.operand(0)
    for number in range(1, len(site.inputs)):
        total = site.emit(op, (total, site.operand(number)))
    return (site.emit("Identity", (total,)) if len(site.inputs) == 1 else total,)


def _mean(site: Site) -> Sequence[str]:
    (total,) = _chain(site, "Add")
    return (site.emit("Div", (total, site.number(len(site.inputs), total))),)


def _clip(site: Site) -> Sequence[str]:
    found = site.operand(0)
    for number, name, op in ((1, "min", "Max"), (2, "max", "Min")):
        bound = site.attribute(name)
        if site.has(number):
            found = site.emit(op, (found, site.operand(number)))
        elif bound is not None:
            found = site.emit(op, (found, site.number(bound, found)))
    return (found if found != site.operand(0) else site.emit("Identity", (found,)),)


def _cast(site: Site) -> Sequence[str]:
    to = element_type(site.attribute("to"), site.where)
    return (site.emit("Cast", (site.operand(0),), to=to.value),)


def _cast_like(site: Site) -> Sequence[str]:
    return (site.emit("Cast", (site.operand(0),), to=site.type(1).dtype.value),)


def _mod(site: Site) -> Sequence[str]:
    return (site.emit("Mod", site.inputs, fmod=bool(site.attribute("fmod", 0))),)


def _shift(site: Site) -> Sequence[str]:
    facts = {"direction": site.attribute("direction"), "bits": 8 * site.type(0).dtype.byte_count}
    return (site.emit("BitShift", site.inputs, **facts),)


def _gated(site: Site) -> Sequence[str]:
    """One half, swished, opens or shuts the other."""
    if site.type(0) != site.type(1):
        raise site.error(f"{site.type(0)} gates {site.type(1)}", "both have the same type and shape")
    gate = site.emit("Swish", (site.operand(0),), alpha=site.attribute("alpha", 1.0))
    return (site.emit("Mul", (gate, site.operand(1))),)


def _is_infinite(site: Site) -> Sequence[str]:
    facts = {name: bool(site.attribute(name, 1)) for name in ("detect_negative", "detect_positive")}
    return (site.emit("IsInf", site.inputs, **facts),)


def _p_relu(site: Site) -> Sequence[str]:
    """The slope is broadcast to the operand, as NumPy does."""
    return (site.emit("PRelu", site.inputs),)


def _dropout(site: Site) -> Sequence[str]:
    """Nothing, outside of training, or when nothing is dropped."""
    trains = site.has(2) and bool(np.any(site.known(2, "its training mode")))
    if trains and not (site.has(1) and not np.any(site.known(1, "its ratio"))):
        raise site.error("dropout that is training", "export the network for inference")
    found = [site.emit("Identity", (site.operand(0),))]
    if len(site.node.output) > 1:
        mask = site.builder.constant(np.ones(site.type(0).shape, bool))
        found.append(mask)
    return found


ROWS: dict[str, Convert] = {
    **{op: partial(_same, op=op) for op in SAME},
    **{op: partial(_with_attributes, op=op) for op in WITH_ATTRIBUTES},
    "Greater": partial(_swapped, op="Less"),
    "GreaterOrEqual": partial(_swapped, op="LessOrEqual"),
    "Sum": partial(_chain, op="Add"),
    "Max": partial(_chain, op="Max"),
    "Min": partial(_chain, op="Min"),
    "Mean": _mean,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Mod": _mod,
    "BitShift": _shift,
    "IsInf": _is_infinite,
    "PRelu": _p_relu,
    "SwiGLU": _gated,
    "Dropout": _dropout,
}
