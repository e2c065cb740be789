"""The program that answers requests in files, as it runs on a phone: here for this machine."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.tiny_graphs import write_attention_block
from ourcompiler import package, reference, toolchain
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array
from ourcompiler.onnx_in.load import load
from ourcompiler.pipeline import optimize
from ourcompiler.program import Program
from ourcompiler.selftest.compare import error_of
from ourcompiler.targets import target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Program]:
    folder = tmp_path_factory.mktemp("serve")
    graph = load(write_attention_block(folder / "net.onnx"), {})
    program = program_of(optimize(graph), target("host"))
    toolchain.build_program(package.sources_of(program), folder / "model", program.target)
    program.write_weights(folder / "weights.bin")
    return folder, program


def inputs() -> dict[str, Array]:
    generator = np.random.default_rng(0)
    context = generator.standard_normal((1, 6, 8)).astype(np.float32)
    return {"ids": generator.integers(0, 11, (1, 6)), "context": context}


def serve(
    built: tuple[Path, Program], folder: Path, given: dict[str, Array], *requests: str
) -> list[dict[str, Any]]:
    """The replies to requests that lie there before the program starts; the first is about loading."""
    home, program = built
    for number, line in enumerate((*requests, "quit"), 1):
        (folder / f"request-{number}").write_text(f"{line}\n")
    (folder / "inputs").write_bytes(b"".join(given[name].tobytes() for name, _ in program.inputs))
    words = [home / "model", "serve", folder, home / "weights.bin", folder / "inputs", "2", "-"]
    subprocess.run(list(map(str, words)), check=True, timeout=60, capture_output=True)
    return [json.loads((folder / f"reply-{number}").read_text()) for number in range(len(requests) + 1)]


def test_it_measures_and_writes_outputs(built: tuple[Path, Program], tmp_path: Path) -> None:
    replies = serve(built, tmp_path, inputs(), "run 3 1", "outputs out", "profile 2", "memory")
    loaded, ran, written, profiled, memory = replies
    assert all(reply["ok"] for reply in replies)
    assert loaded["load_ns"] > 0
    assert (len(ran["run_ns"]), len(ran["input_ns"])) == (3, 3)
    assert min(ran["run_ns"]) > 0
    assert written == {"ok": True}
    assert len(profiled["step_ns"]) == len(built[1].steps)
    assert memory["memory_peak_bytes"] > 0
    (name, one), *_ = built[1].outputs
    found = np.fromfile(tmp_path / "out", one.dtype.numpy, one.element_count).reshape(one.shape)
    wanted = reference.run(load(built[0] / "net.onnx", {}), inputs())[name]
    assert error_of(found, wanted) <= 1e-5


@pytest.mark.parametrize("request_line", ["run 2 0", "run 0 2", "profile 1"])
def test_an_index_outside_is_a_reply(built: tuple[Path, Program], tmp_path: Path, request_line: str) -> None:
    given = inputs()
    given["ids"][0, 3] = 11
    _, failed, memory = serve(built, tmp_path, given, request_line, "memory")
    assert (failed["ok"], failed["kind"]) == (False, "failed")
    assert "an index in the data lies outside what it chooses from" in failed["error"]
    assert memory["ok"], "and it goes on"


def test_what_is_no_request_is_a_reply(built: tuple[Path, Program], tmp_path: Path) -> None:
    _, failed = serve(built, tmp_path, inputs(), "dance")
    assert (failed["ok"], failed["kind"]) == (False, "failed")
    assert "dance" in failed["error"]


def test_inputs_of_another_network_end_it(built: tuple[Path, Program], tmp_path: Path) -> None:
    given = {**inputs(), "context": np.zeros((1, 6, 7), np.float32)}
    with pytest.raises(subprocess.CalledProcessError) as raised:
        serve(built, tmp_path, given)
    assert b"not the network's inputs" in raised.value.stderr
