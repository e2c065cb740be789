"""Graphs drawn at random: generated code, the reference and ONNX Runtime compute the same.

More of them, at night: `python -m ourcompiler.selftest --graphs 3000`.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ourcompiler import reference
from ourcompiler.pipeline import SWITCHES
from ourcompiler.selftest import __main__ as command
from ourcompiler.selftest import compare
from ourcompiler.selftest.compare import TOLERANCE, drawn, failures, largest_error, nudged, smallest
from ourcompiler.selftest.random_graphs import Drawn, draw
from ourcompiler.targets import runnable_here

from .onnx_out import WRITERS, exported

GRAPHS, GRAPHS_ELSEWHERE = 150, 40


def test_every_seed_draws_the_same_graph_again() -> None:
    for seed in range(20):
        first, second = draw(seed), draw(seed)
        assert first.graph == second.graph
        assert all(np.array_equal(first.inputs[name], second.inputs[name]) for name in first.graph.inputs)


def test_graphs_have_every_operator_that_can_be_written() -> None:
    found = {node.op for seed in range(600) for node in draw(seed).graph.nodes}
    assert found == set(WRITERS)


@pytest.mark.parametrize("threads", [1, 2])
def test_generated_code_computes_what_the_reference_does(threads: int, tmp_path: Path) -> None:
    assert failures(drawn(range(GRAPHS)), tmp_path, threads=threads) == {}


@pytest.mark.parametrize("name", runnable_here())
def test_so_it_does_for_every_target(name: str, tmp_path: Path) -> None:
    seeds = range(GRAPHS, GRAPHS + GRAPHS_ELSEWHERE)
    assert failures(drawn(seeds), tmp_path, target_name=name) == {}


@pytest.mark.parametrize("switch", SWITCHES)
def test_so_it_does_without_an_optimisation(switch: str, tmp_path: Path) -> None:
    """Each is a choice: what comes after must not rely on it."""
    assert failures(drawn(range(GRAPHS_ELSEWHERE)), tmp_path, without=(switch,)) == {}


def runtime(case: Drawn) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of the graph, as it stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        exported(case.graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [public for public, _ in case.graph.outputs]
    found = session.run([f"result {name}" for name in names], case.inputs)
    return dict(zip(names, found, strict=True))


def test_the_reference_computes_what_onnx_runtime_does() -> None:
    """With what generated code is compared with the reference for, all three agree."""
    wrong = {}
    for seed in range(GRAPHS + GRAPHS_ELSEWHERE):
        case = draw(seed)
        wanted = reference.run(case.graph, case.inputs)
        error = largest_error(runtime(case), wanted)
        if error > TOLERANCE and error > compare.NUDGES_ALLOWED * largest_error(nudged(case), wanted):
            wrong[seed] = error
    assert wrong == {}


def broken(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """As if every result were wrong in its last element."""
    spoilt = {name: {key: one.copy() for key, one in results.items()} for name, results in found.items()}
    for results in spoilt.values():
        for one in results.values():
            one.reshape(-1)[-1] += 1
    return spoilt


def test_what_is_wrong_is_found_and_made_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compare.run_all
    monkeypatch.setattr(compare, "run_all", lambda graphs, *rest, **more: broken(real(graphs, *rest, **more)))
    cases = drawn(range(2))
    assert set(failures(cases, tmp_path)) == {"0", "1"}
    assert len(smallest(cases["0"], tmp_path).graph.nodes) == 1


def test_what_does_not_compile_is_found_by_halving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compare.run_all

    def refuse(graphs: Mapping[str, object], *rest: object, **more: object) -> object:
        if "3" in graphs:
            raise AssertionError("a broken pass")
        return real(graphs, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(compare, "run_all", refuse)
    assert failures(drawn(range(5)), tmp_path) == {"3": "AssertionError: a broken pass"}


def test_the_command_for_the_night(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selftest", "--graphs", "3", "--seed", "7"])
    assert command.main() == 0
    assert "3 graphs, 0 wrong" in capsys.readouterr().out
    real = compare.run_all
    monkeypatch.setattr(compare, "run_all", lambda graphs, *rest, **more: broken(real(graphs, *rest, **more)))
    monkeypatch.setattr(sys, "argv", ["selftest", "--graphs", "1", "--seed", "7"])
    assert command.main() == 1
    said = capsys.readouterr().out
    assert "seed 7: differs" in said
    assert "graph" in said


def test_the_command_is_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ourcompiler.selftest", "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "--graphs" in done.stdout) == (0, True)
