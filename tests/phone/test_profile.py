"""`bench profile --device` of `ours`: the program on the phone measures its own kernels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.phone.host import AdbHome
from tests.phone.links import use_private_keys
from tests.phone.networks import NETWORKS
from tests.phone.phone import Phone

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600


def test_ours_is_profiled_there(
    phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_private_keys(adb_home, monkeypatch)
    net = NETWORKS["convolutions"](tmp_path / "net.onnx")
    words = ["profile", str(net), "--framework", "ours", "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchsuite.cli.main", *words, "--device", f"tcp:{phone.serial}"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_CACHE": str(tmp_path / "cache"),
            "BENCH_DEVICE_STATE": str(tmp_path / "state"),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["facts"]["target"] == "aarch64-static"
    assert said["nodes_covered"] == said["nodes"]
    assert min(one["duration_ns"] for one in said["entries"]) > 0
    assert not phone.processes()
