"""Footnotes follow from facts: one case for every finder, and none for a framework at its best."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.ort import ORT
from benchsuite.findings import best_isa, findings
from benchsuite.frameworks_doctor import Binary, Inspection, Look, sweep_rows
from benchsuite.isa import CodeScan
from benchsuite.precision import Precision
from benchsuite.threads import CodeSamples, ThreadUse
from models.errors import BenchError

FLAGS = "avx avx2 fma avx512f"
SECOND = 1_000_000_000
FP32 = Precision("fp32", 24.0, 24.0, sums_exact=True, full_range=True)
CORES = {1: frozenset({0}), 2: frozenset({1})}
BEST = Look(
    threads=2,
    facts={"precision": "fp32"},
    use=ThreadUse(SECOND, {1: SECOND, 2: SECOND, 3: 1000}, CORES),
    idle=ThreadUse(SECOND, {1: 0, 2: 1000}),
    samples=CodeSamples({"AVX-512 FMA": 60, "": 40}, {"lib.so": 100}),
    binaries=(Binary("lib.so", CodeScan({"AVX-512 FMA": 900, "AVX2 FMA": 100}, 10**6)),),
    precision=FP32,
)
TRIED = {"variant": "no-arena", "options": {}, "ratio": 0.9, "low": 0.88, "high": 0.92, "threads": 2}
CASES: Mapping[str, tuple[Look, str]] = {
    "precision": (
        replace(BEST, precision=replace(FP32, name="bf16"), facts={"precision": "bf16"}),
        "computes in bf16, not in fp32",
    ),
    "sums": (replace(BEST, precision=replace(FP32, sums_exact=False)), "fewer bits"),
    "says": (replace(BEST, facts={"precision": "bf16"}), "says that it computes in bf16"),
    "binary": (
        replace(BEST, binaries=(Binary("lib.so", CodeScan({"AVX2 FMA": 100}, 10**6)),)),
        "no AVX-512 FMA in what is installed",
    ),
    "not used": (replace(BEST, samples=CodeSamples({"AVX2 FMA": 60, "": 40}, {})), "hardly uses it: 0%"),
    "unknown": (replace(BEST, samples=CodeSamples(refused="no ptrace")), "unknown: no ptrace"),
    "threads": (replace(BEST, use=ThreadUse(SECOND, {1: SECOND}, CORES)), "asked for 2 threads, 1 computed"),
    "cores": (
        replace(BEST, use=ThreadUse(SECOND, {1: SECOND, 2: SECOND}, dict.fromkeys((1, 2), frozenset({0})))),
        "its 2 threads shared 1 cores",
    ),
    "spins": (replace(BEST, idle=ThreadUse(SECOND, {1: SECOND // 5})), "idle worker uses 20% of a core"),
    "refused": (Look(2, refused="refused: operator X"), "operator X"),
}


def found(look: Look, flags: str = FLAGS, tried: tuple[Mapping[str, object], ...] = ()) -> tuple[str, ...]:
    return findings(Inspection(ORT, "1", (look,), tried), look, flags)


def test_nothing_is_said_of_a_framework_at_its_best() -> None:
    assert found(BEST) == ()


@pytest.mark.parametrize("name", CASES)
def test_a_fact_becomes_a_footnote(name: str) -> None:
    look, text = CASES[name]
    (only,) = found(look)
    assert text in only


def test_a_variant_without_a_number_is_no_finding() -> None:
    """A sweep in which it failed on every network."""
    assert found(BEST, tried=({**TRIED, "ratio": None, "low": None, "high": None},)) == ()


def test_a_faster_variant_is_named() -> None:
    assert "variant no-arena was faster: 0.90" in found(BEST, tried=(TRIED,))[0]
    assert found(BEST, tried=({**TRIED, "high": 1.01},)) == ()
    assert found(BEST, tried=({**TRIED, "threads": 1},)) == ()


def test_code_made_at_run_time_counts_but_is_no_binary() -> None:
    made = (
        Binary("", CodeScan({"AVX-512 FMA": 99}, 4096)),
        Binary("lib.so", CodeScan({"AVX2 FMA": 9}, 4096)),
    )
    look = replace(BEST, binaries=made)
    assert found(look) == ()
    assert look.in_binary == {"AVX2 FMA": 9}


def test_spinning_threads_do_not_hide_the_kernels() -> None:
    assert found(replace(BEST, samples=CodeSamples({"AVX-512 FMA": 5, "": 95}, {}))) == ()


def test_the_best_of_a_processor() -> None:
    assert best_isa("avx avx2") == "AVX2 FMA"
    assert best_isa("asimd asimddp") == "NEON FMA"
    assert best_isa("asimd sve") == "SVE FMA"
    assert best_isa("") is None
    assert found(replace(BEST, binaries=()), flags="") == ()


def test_sweeps_are_read(tmp_path: Path) -> None:
    assert sweep_rows(tmp_path, "ort") == ()
    (tmp_path / "ort.json").write_text('{"framework": "ort", "rows": [{"variant": "x"}]}')
    assert sweep_rows(tmp_path, "ort") == ({"variant": "x"},)
    (tmp_path / "ort.json").write_text("{")
    with pytest.raises(BenchError, match="cannot be read"):
        sweep_rows(tmp_path, "ort")
