"""RNN, GRU and LSTM, unrolled: the sequence has a known length, so that every step is rows of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.onnx_in.value import Value, constant, names, operand, optional, stacked

LONGEST = 1024
"""Steps that are unrolled; a step is a dozen rows."""
TOO_LONG = "run the network on shorter pieces and carry the state from one to the next"
X, W, R, B, LENGTHS, HIDDEN, CELL, PEEPHOLES = range(8)

Activation = Callable[[Value], Value]
Parametrised = Callable[[Value, float | None, float | None], Value]
Step = Callable[["Direction", Value, "State"], "State"]


@dataclass(frozen=True, slots=True)
class State:
    """What a step hands to the next: (batch, hidden) each."""

    hidden: Value
    cell: Value | None = None


@dataclass(frozen=True, slots=True)
class Direction:
    """Weights of one direction, as factors on the right, and its activations."""

    site: Site
    recurrent: Value
    bias: Value | None
    peepholes: Value | None
    activations: tuple[Activation, ...]

    def clipped(self, x: Value) -> Value:
        """Before an activation."""
        bound = self.site.attribute("clip")
        return x if bound is None else x.clip(-bound, bound)

    def activated(self, number: int, x: Value) -> Value:
        """By one of the activations."""
        return self.activations[number](self.clipped(x))


def _plain(op: str, x: Value, alpha: float | None, beta: float | None) -> Value:
    return x.apply(op)


def _with_alpha(op: str, usual: float, x: Value, alpha: float | None, beta: float | None) -> Value:
    return x.apply(op, alpha=usual if alpha is None else alpha)


def _affine(x: Value, alpha: float | None, beta: float | None) -> Value:
    return x * (1.0 if alpha is None else alpha) + (0.0 if beta is None else beta)


def _scaled_tanh(x: Value, alpha: float | None, beta: float | None) -> Value:
    return (x * (1.0 if beta is None else beta)).apply("Tanh") * (1.0 if alpha is None else alpha)


def _hard_sigmoid(x: Value, alpha: float | None, beta: float | None) -> Value:
    facts = {"alpha": 0.2 if alpha is None else alpha, "beta": 0.5 if beta is None else beta}
    return x.apply("HardSigmoid", **facts)


ACTIVATIONS: Mapping[str, Parametrised] = {
    **{op.lower(): partial(_plain, op) for op in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")},
    "leakyrelu": partial(_with_alpha, "LeakyRelu", 0.01),
    "thresholdedrelu": partial(_with_alpha, "ThresholdedRelu", 1.0),
    "elu": partial(_with_alpha, "Elu", 1.0),
    "affine": _affine,
    "scaledtanh": _scaled_tanh,
    "hardsigmoid": _hard_sigmoid,
}
WITH_ALPHA = frozenset({"leakyrelu", "thresholdedrelu", "elu", "affine", "scaledtanh", "hardsigmoid"})
WITH_BETA = frozenset({"affine", "scaledtanh", "hardsigmoid"})


def _activations(site: Site, usual: Sequence[str], directions: int) -> list[Activation]:
    """All of them, one direction after the other; each takes its numbers from the front of the lists."""
    given = site.attribute("activations") or list(usual) * directions
    texts = [(one.decode() if isinstance(one, bytes) else one).lower() for one in given]
    if len(texts) != len(usual) * directions:
        raise site.error(f"{len(texts)} activations", f"{len(usual)} for each of {directions} directions")
    alphas, betas = (iter(site.attribute(name) or ()) for name in ("activation_alpha", "activation_beta"))
    found: list[Activation] = []
    for text in texts:
        if text not in ACTIVATIONS:
            raise site.error(f"the activation {text!r}", f"there are {', '.join(ACTIVATIONS)}")
        alpha = next(alphas, None) if text in WITH_ALPHA else None
        beta = next(betas, None) if text in WITH_BETA else None
        found.append(_bound(ACTIVATIONS[text], alpha, beta))
    return found


def _bound(function: Parametrised, alpha: float | None, beta: float | None) -> Activation:
    return lambda x: function(x, alpha, beta)


def _rnn_step(way: Direction, from_input: Value, state: State) -> State:
    return State(way.activated(0, from_input + state.hidden @ way.recurrent))


def _gru_step(way: Direction, from_input: Value, state: State) -> State:
    """Gates: update, reset, then what is new."""
    size, hidden = state.hidden.shape[1], state.hidden
    update_in, reset_in, new_in = from_input.parts(1, 3)
    gates = hidden @ way.recurrent.part(1, 0, 2 * size)
    update_of, reset_of = gates.parts(1, 2)
    update, reset = way.activated(0, update_in + update_of), way.activated(0, reset_in + reset_of)
    to_new = way.recurrent.part(1, 2 * size, 3 * size)
    if way.site.attribute("linear_before_reset", 0):
        past = hidden @ to_new
        past = past if way.bias is None else past + way.bias.part(0, 2 * size, 3 * size)
        new = way.activated(1, new_in + reset * past)
    else:
        new = way.activated(1, new_in + (reset * hidden) @ to_new)
    return State((1.0 - update) * new + update * hidden)


def _lstm_step(way: Direction, from_input: Value, state: State) -> State:
    """Gates: input, output, forget, cell."""
    cell = state.cell
    assert cell is not None
    into, out, forget, new = (from_input + state.hidden @ way.recurrent).parts(1, 4)
    peepholes = None if way.peepholes is None else way.peepholes.parts(0, 3)
    if peepholes is not None:
        into, forget = into + peepholes[0] * cell, forget + peepholes[2] * cell
    into = way.activated(0, into)
    forget = 1.0 - into if way.site.attribute("input_forget", 0) else way.activated(0, forget)
    cell = forget * cell + into * way.activated(1, new)
    out = way.activated(0, out if peepholes is None else out + peepholes[1] * cell)
    return State(out * way.activations[2](cell), cell)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three: how many gates, its usual activations, a step."""

    gates: int
    activations: tuple[str, ...]
    step: Step


KINDS = {
    "RNN": Kind(1, ("Tanh",), _rnn_step),
    "GRU": Kind(3, ("Sigmoid", "Tanh"), _gru_step),
    "LSTM": Kind(4, ("Sigmoid", "Tanh", "Tanh"), _lstm_step),
}


def _recurrent(site: Site, kind: Kind) -> Sequence[str]:
    by_batch = bool(site.attribute("layout", 0))
    x = operand(site, X).swapped(0, 1) if by_batch else operand(site, X)
    steps, batch, _ = x.shape
    if not 0 < steps <= LONGEST:
        raise site.error(f"a sequence of {steps} steps, of which {LONGEST} are unrolled", TOO_LONG)
    ways = _ways(site)
    activations = _activations(site, kind.activations, len(ways))
    each = len(kind.activations)
    sequences, lasts = [], []
    for number, backwards in enumerate(ways):
        way = _direction(site, number, kind, tuple(activations[each * number : each * (number + 1)]))
        start = _start(site, number, batch, way.recurrent.shape[0], by_batch)
        inputs = _inputs(x, way, number, kind)
        sequence, last = _unrolled(way, inputs, start, kind, backwards)
        sequences.append(sequence)
        lasts.append(last)
    whole = stacked(sequences, 1)
    ends = [stacked([one.hidden for one in lasts], 0)]
    cells = [one.cell for one in lasts if one.cell is not None]
    ends += [stacked(cells, 0)] if cells else []
    if by_batch:
        return names(whole.transpose(2, 0, 1, 3), *(one.swapped(0, 1) for one in ends))
    return names(whole, *ends)


def _ways(site: Site) -> tuple[bool, ...]:
    """Whether each direction goes backwards."""
    text = site.attribute("direction", "forward")
    found = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(text)
    if found is None or site.type(W).shape[0] != len(found):
        hint = "forward, reverse or bidirectional, and as many weights"
        raise site.error(f"the direction {text!r} with weights of {site.type(W).shape}", hint)
    return found


def _direction(site: Site, number: int, kind: Kind, activations: tuple[Activation, ...]) -> Direction:
    recurrent = operand(site, R).at(0, number)
    size = recurrent.shape[1]
    if recurrent.shape != (kind.gates * size, size):
        raise site.error(
            f"recurrent weights of {site.type(R).shape}", f"{kind.gates} gates, one after another"
        )
    bias, peepholes = optional(site, B), optional(site, PEEPHOLES)
    return Direction(
        site,
        recurrent.swapped(0, 1),
        None if bias is None else bias.at(0, number).part(0, kind.gates * size, 2 * kind.gates * size),
        None if peepholes is None else peepholes.at(0, number),
        activations,
    )


def _inputs(x: Value, way: Direction, number: int, kind: Kind) -> Value:
    """What every step adds to its gates, (steps, batch, gates), as one product for the whole sequence.

    The recurrent biases are in it, but for the new state of a GRU that is reset after its product.
    """
    site, size = way.site, way.recurrent.shape[0]
    steps, batch, width = x.shape
    found = x.reshape(steps * batch, width) @ operand(site, W).at(0, number).swapped(0, 1)
    if site.has(B):
        bias = operand(site, B).at(0, number).part(0, 0, kind.gates * size)
        assert way.bias is not None
        late = kind.gates == 3 and site.attribute("linear_before_reset", 0)
        rest = way.bias.part(0, 0, 2 * size).pad(0, 0, size) if late else way.bias
        found = found + (bias + rest)
    return found.reshape(steps, batch, kind.gates * size)


def _start(site: Site, number: int, batch: int, size: int, by_batch: bool) -> State:
    zeros = np.zeros((batch, size), site.type(X).dtype.numpy)
    found = []
    for place in (HIDDEN, CELL):
        one = optional(site, place) if place == HIDDEN or site.node.op_type == "LSTM" else None
        if one is None:
            found.append(constant(site, zeros))
        else:
            found.append((one.swapped(0, 1) if by_batch else one).at(0, number))
    return State(found[0], found[1] if site.node.op_type == "LSTM" else None)


def _unrolled(
    way: Direction, inputs: Value, state: State, kind: Kind, backwards: bool
) -> tuple[Value, State]:
    """The hidden states, (steps, batch, hidden), and the last state."""
    steps = inputs.shape[0]
    lengths = _lengths(way.site, steps)
    found: dict[int, Value] = {}
    for step in reversed(range(steps)) if backwards else range(steps):
        after = kind.step(way, inputs.at(0, step), state)
        shown = after.hidden
        if lengths is not None:  # what has ended keeps its state; backwards, what begins late has its first
            alive = lengths.constant(step).less(lengths)
            shown = alive.choose(after.hidden, 0.0)
            after = State(*(alive.choose(new, old) for new, old in _pairs(after, state)))
        found[step], state = shown, after
    return stacked([found[step] for step in range(steps)], 0), state


def _pairs(after: State, before: State) -> list[tuple[Value, Value]]:
    pairs = [(after.hidden, before.hidden)]
    if after.cell is not None and before.cell is not None:
        pairs.append((after.cell, before.cell))
    return pairs


def _lengths(site: Site, steps: int) -> Value | None:
    """Lengths of the sequences, (batch, 1), unless all are known to be whole."""
    lengths = optional(site, LENGTHS)
    if lengths is None:
        return None
    if lengths.known is not None and (lengths.known == steps).all():
        return None
    return lengths.cast(DType.I64).reshape(lengths.type.element_count, 1)


ROWS: dict[str, Convert] = {name: partial(_recurrent, kind=kind) for name, kind in KINDS.items()}
