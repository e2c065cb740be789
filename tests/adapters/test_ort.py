"""ONNX Runtime: threads, buffers, and outputs that stay valid."""

from pathlib import Path

import numpy as np
import pytest

from adapters.ort import ORT, ORT_NOOPT, OrtAdapter
from adapters.protocol import Prepared, Session, Setting
from models.tiny import write_convolutions

VALUES = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ort") / "net.onnx"
    write_convolutions(path, channels=4, pixels=8, layers=2)
    return path


def load(adapter: OrtAdapter, network: Path, threads: int = 1) -> Session:
    setting = Setting(threads, "fp32")
    return adapter.load(Prepared(network), setting)


def run(session: Session, values: np.ndarray) -> np.ndarray:
    session.feed({"x": values})
    session.run()
    return session.outputs()["y"]


@pytest.mark.parametrize("adapter", [ORT, ORT_NOOPT], ids=lambda row: row.name)
def test_outputs_follow_the_inputs_and_stay_valid(adapter: OrtAdapter, network: Path) -> None:
    session = load(adapter, network)
    first = run(session, VALUES)
    kept = first.copy()
    second = run(session, 2 * VALUES)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, 2 * kept, rtol=1e-5)
    np.testing.assert_array_equal(run(session, VALUES), kept)


def test_optimised_and_not_agree(network: Path) -> None:
    outputs = [run(load(adapter, network), VALUES) for adapter in (ORT, ORT_NOOPT)]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


def test_the_inputs_are_copied(network: Path) -> None:
    """What the caller does with its array afterwards is no business of the framework."""
    values = VALUES.copy()
    session = load(ORT, network)
    session.feed({"x": values})
    values[:] = np.nan
    session.run()
    assert np.isfinite(session.outputs()["y"]).all()


@pytest.mark.parametrize(("adapter", "level"), [(ORT, "enable_all"), (ORT_NOOPT, "disable_all")])
def test_it_tells_how_it_runs(adapter: OrtAdapter, level: str, network: Path) -> None:
    facts = load(adapter, network, threads=2).describe()
    assert (facts["graph_optimization_level"], facts["threads"]) == (level, "2")
    assert facts["version"][0].isdigit()


def test_only_fp32(network: Path) -> None:
    assert ORT.refuse(Setting(1, "fp32")) is None
    assert "not bf16" in (ORT.refuse(Setting(1, "bf16")) or "")


def test_only_the_reference_is_not_at_its_best() -> None:
    assert ORT.notes == ()
    assert "on purpose" in ORT_NOOPT.notes[0]


def test_a_broken_network_is_the_frameworks_own_error(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x0a broken")
    with pytest.raises(Exception, match=r"(?i)protobuf|load model"):
        ORT.load(Prepared(path), Setting(1, "fp32"))
