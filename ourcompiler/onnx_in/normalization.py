"""Normalisation: by a mean and a deviation, by a norm, by neighbours."""

from collections.abc import Sequence

from ourcompiler.ir.graph import Attribute
from ourcompiler.onnx_in.neural import axis_from
from ourcompiler.onnx_in.site import Convert, Site, element_type
from ourcompiler.onnx_in.value import Value, names, operand

EPSILON = 1e-5
STANDARD_EPSILON = 1e-9
"""What MeanVarianceNormalization adds to the deviation."""


def _facts(site: Site) -> dict[str, Attribute]:
    return {
        "axis": axis_from(site, "axis", -1, site.type(0).rank),
        "epsilon": float(site.attribute("epsilon", EPSILON)),
    }


def _layer_norm(site: Site) -> Sequence[str]:
    operands = (site.operand(0), site.operand_or_absent(1), site.operand_or_absent(2))
    found = site.emit("LayerNorm", operands, **_facts(site))
    return (found, *_statistics(site)) if len(site.node.output) > 1 else (found,)


def _statistics(site: Site) -> Sequence[str]:
    """The mean, and one over the deviation."""
    stash = element_type(site.attribute("stash_type", 1), site.where)
    x = operand(site, 0).cast(stash)
    axes = range(axis_from(site, "axis", -1, x.rank), x.rank)
    mean = x.reduce("ReduceMean", axes)
    centred = x - mean
    variance = (centred * centred).reduce("ReduceMean", axes)
    return names(mean, (variance + site.attribute("epsilon", EPSILON)).apply("Sqrt").apply("Reciprocal"))


def _rms_norm(site: Site) -> Sequence[str]:
    return (site.emit("RMSNorm", (site.operand(0), site.operand_or_absent(1)), **_facts(site)),)


def _instance_norm(site: Site) -> Sequence[str]:
    """A group for each channel."""
    facts = {"groups": site.type(0).shape[1], "epsilon": float(site.attribute("epsilon", EPSILON))}
    return (site.emit("GroupNorm", site.inputs, **facts),)


def _group_norm(site: Site) -> Sequence[str]:
    """Before opset 21 scale and bias were one a group."""
    groups, channels = site.attribute("num_groups"), site.type(0).shape[1]
    operands = [site.operand(0)]
    for number in (1, 2):
        one = operand(site, number)
        size = one.type.element_count
        if size != channels:
            one = one.reshape(size, 1).expand(size, channels // size).reshape(channels)
        operands.append(one.name)
    facts = {"groups": groups, "epsilon": float(site.attribute("epsilon", EPSILON))}
    return (site.emit("GroupNorm", operands, **facts),)


def _batch_norm(site: Site) -> Sequence[str]:
    """With known statistics: a scale and a shift for each channel."""
    if site.attribute("training_mode", 0) or len(site.node.output) > 1:
        raise site.error("a batch normalisation that is training", "export the network for inference")
    x, scale, bias, mean, variance = (operand(site, number) for number in range(5))
    factor = scale / (variance + site.attribute("epsilon", EPSILON)).apply("Sqrt")
    shift = bias - mean * factor
    column = (scale.type.element_count, *[1] * (x.rank - 2))
    return names(x * factor.reshape(*column) + shift.reshape(*column))


def _mean_variance_norm(site: Site) -> Sequence[str]:
    x = operand(site, 0)
    axes = [axis for axis in site.attribute("axes", (0, 2, 3)) if axis < x.rank]
    centred = x - x.reduce("ReduceMean", axes)
    deviation = (centred * centred).reduce("ReduceMean", axes).apply("Sqrt")
    return names(centred / (deviation + STANDARD_EPSILON))


def _norm(x: Value, axes: Sequence[int], p: int) -> Value:
    """The p-th root of the sum of p-th powers; raises for a `p` below 1."""
    if p < 1:
        raise x.site.error(f"a norm of order {p}", "1 and above")
    if p <= 2:
        return x.reduce(f"ReduceL{p}", axes)
    total = x.apply("Abs").apply("Pow", float(p)).reduce("ReduceSum", axes)
    return total.apply("Pow", 1.0 / p)


def _lp_norm(site: Site) -> Sequence[str]:
    """What has no length stays 0."""
    x = operand(site, 0)
    length = _norm(x, (axis_from(site, "axis", -1, x.rank),), site.attribute("p", 2))
    return names(length.equal(0.0).choose(0.0, x / length))


def _global_lp_pool(site: Site) -> Sequence[str]:
    x = operand(site, 0)
    return names(_norm(x, range(2, x.rank), site.attribute("p", 2)))


def _local_response_norm(site: Site) -> Sequence[str]:
    """By the mean square of neighbouring channels: a pool over the channels."""
    x, size = operand(site, 0), site.attribute("size")
    if x.rank < 3 or not size:
        raise site.error(f"neighbours of {size} channels of {x.shape}", "an image, and a size of 1 or more")
    batch, channels = x.shape[:2]
    rest = x.type.element_count // (batch * channels)
    before = (size - 1) // 2
    facts: dict[str, Attribute] = {
        "kernel": (size, 1),
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (before, 0, size - 1 - before, 0),
        "ceil": False,
        "count_border": True,
    }
    square = (x * x).reshape(batch, 1, channels, rest)
    mean = square.apply("AveragePool", **facts).reshape(*x.shape)
    scale = mean * site.attribute("alpha", 1e-4) + site.attribute("bias", 1.0)
    return names(x / scale.apply("Pow", site.attribute("beta", 0.75)))


ROWS: dict[str, Convert] = {
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "BatchNormalization": _batch_norm,
    "MeanVarianceNormalization": _mean_variance_norm,
    "LpNormalization": _lp_norm,
    "GlobalLpPool": _global_lp_pool,
    "LRN": _local_response_norm,
}
