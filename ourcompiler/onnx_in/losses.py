"""Losses, where a network is exported with one: the logarithm of what was expected, gathered."""

from collections.abc import Sequence

from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.onnx_in.value import Value, names, operand, optional

REDUCTIONS = ("none", "mean", "sum")


def _log_likelihood_loss(site: Site) -> Sequence[str]:
    return names(_loss(operand(site, 0), operand(site, 1), optional(site, 2)))


def _cross_entropy_loss(site: Site) -> Sequence[str]:
    likelihoods = operand(site, 0).apply("LogSoftmax", axis=1)
    return names(_loss(likelihoods, operand(site, 1), optional(site, 2)), likelihoods)


def _loss(likelihoods: Value, classes: Value, weights: Value | None) -> Value:
    """From (batch, classes, …) and the class of each (batch, …); an ignored class weighs nothing."""
    site = likelihoods.site
    ignored, how = site.attribute("ignore_index"), site.attribute("reduction", "mean")
    if likelihoods.rank < 2 or classes.shape != (likelihoods.shape[0], *likelihoods.shape[2:]):
        hint = "scores are (batch, classes, …), classes are (batch, …)"
        raise site.error(f"classes of {classes.shape} for scores of {likelihoods.shape}", hint)
    if how not in REDUCTIONS:
        raise site.error(f"the reduction {how!r}", f"there are {', '.join(REDUCTIONS)}")
    index = classes.cast(DType.I64)
    skipped = None if ignored is None else index.equal(ignored)
    index = index if skipped is None else skipped.choose(0, index)
    column = index.reshape(index.shape[0], 1, *index.shape[1:])
    loss = 0.0 - likelihoods.apply("GatherElements", column, axis=1).reshape(*index.shape)
    weight = None if weights is None else weights.apply("Gather", index, axis=0)
    if skipped is not None:
        weight = skipped.choose(0.0, loss.constant(1.0).expand(*loss.shape) if weight is None else weight)
        loss = skipped.choose(0.0, loss)
    loss = loss if weight is None else loss * weight
    every = range(loss.rank)
    if how == "none":
        return loss
    if how == "mean" and weight is None:
        return loss.reduce("ReduceMean", every, keep=False)
    total = loss.reduce("ReduceSum", every, keep=False)
    return total if how == "sum" or weight is None else total / weight.reduce("ReduceSum", every, keep=False)


ROWS: dict[str, Convert] = {
    "NegativeLogLikelihoodLoss": _log_likelihood_loss,
    "SoftmaxCrossEntropyLoss": _cross_entropy_loss,
}
