"""The equal-outputs gate: a speedup counts only when the outputs agree with the reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
"""Largest relative L2 error of an output against the fp32 reference, for each precision class: eight bits of
mantissa (bf16) lose about 2 % over the depth of a network.
"""

PIECE_ELEMENTS = 2**18

NUMBER_KINDS = "biuf"
"""numpy's letters for truth values, integers and floating numbers."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst output's relative L2 error (None when it could not be computed) and why it is wrong, if it
    is.
    """

    error: float | None
    reason: str = ""

    @property
    def equal(self) -> bool:
        """Whether the outputs agree."""
        return not self.reason


def compare(reference: Arrays, outputs: Arrays, precision: str) -> Verdict:
    """Compare all outputs by name; the verdict is that of the worst one.

    Floating outputs: ‖y − r‖₂ / ‖r‖₂ against the tolerance of the precision class, because an element-wise
    relative error explodes where the reference is near zero. Other outputs must be equal.
    """
    missing = sorted(set(reference) - set(outputs))
    if missing:
        return Verdict(None, f"output {missing[0]!r} is missing")
    verdicts = [
        _compare_one(name, reference[name], outputs[name], TOLERANCES[precision]) for name in reference
    ]
    wrong = [verdict for verdict in verdicts if not verdict.equal]
    return wrong[0] if wrong else max(verdicts, key=lambda verdict: verdict.error or 0.0)


def _compare_one(name: str, reference: NDArray[Any], output: NDArray[Any], tolerance: float) -> Verdict:
    if reference.shape != output.shape:
        return Verdict(
            None, f"output {name!r} has shape {list(output.shape)}, expected {list(reference.shape)}"
        )
    if (reference.dtype.kind in NUMBER_KINDS) != (output.dtype.kind in NUMBER_KINDS):
        return Verdict(None, f"output {name!r} has dtype {output.dtype}, expected {reference.dtype}")
    if not np.issubdtype(reference.dtype, np.floating):
        different = int(np.count_nonzero(reference != output))
        return Verdict(
            different / max(1, reference.size), _if(different, f"{different} values of {name!r} differ")
        )
    not_finite = int(np.count_nonzero(~np.isfinite(output) & np.isfinite(reference)))
    if not_finite:
        return Verdict(None, f"output {name!r} has {not_finite} of {output.size} values NaN or infinite")
    special = ~np.isfinite(reference)
    if not np.array_equal(output[special], reference[special], equal_nan=True):
        return Verdict(None, f"output {name!r} differs where the reference is NaN or infinite")
    error = relative_error(reference, output)
    return Verdict(
        error, _if(error > tolerance, f"output {name!r}: relative L2 error {error:.2g} > {tolerance:g}")
    )


def relative_error(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """‖output − reference‖₂ / ‖reference‖₂ over the finite values of the reference, in float64; absolute for
    a zero reference.

    In pieces: float64 copies of a language model's logits would be the largest thing in the harness.
    """
    expected, computed = reference.ravel(), output.ravel()
    difference_squared = scale_squared = 0.0
    for start in range(0, expected.size, PIECE_ELEMENTS):
        piece = expected[start : start + PIECE_ELEMENTS].astype(np.float64)
        finite = np.isfinite(piece)
        wide = computed[start : start + PIECE_ELEMENTS].astype(np.float64)
        difference_squared += float(np.sum((wide[finite] - piece[finite]) ** 2))
        scale_squared += float(np.sum(piece[finite] ** 2))
    difference = difference_squared**0.5
    return float(difference / scale_squared**0.5 if scale_squared else difference)


def _if(condition: object, text: str) -> str:
    return text if condition else ""
