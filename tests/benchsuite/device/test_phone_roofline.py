"""`bench run --device PHONE` with a probe: its facts, and the columns of the report that come from them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchsuite.ceiling import ceiling_of, source_of
from benchsuite.cli.run import command
from benchsuite.journal import Journal
from reports.cells import read_run
from reports.latency import COLUMNS, latency_table
from tests.phone.host import AdbHome
from tests.phone.networks import NETWORKS
from tests.phone.phone import Phone

pytestmark = pytest.mark.slow

QUICK = ("least_blocks=1", "most_blocks=1", "warm_up_seconds=0", "block_seconds=0.01", "probe_seconds=0.03")


def test_a_run_on_a_phone_has_a_roofline(
    module_phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**adb_home.environment, "BENCH_DEVICE_STATE": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    network, book = NETWORKS["convolutions"](tmp_path / "convolutions.onnx"), tmp_path / "journal.db"
    words = ["--models", str(network), "--frameworks", "ours", "--device", module_phone.serial]
    words += ["--journal", str(book), "--cache", str(tmp_path / "cache"), "--quiet"]
    done = CliRunner().invoke(command, [*words, *(word for one in QUICK for word in ("--set", one))])
    assert done.exit_code == 0, (done.output, done.exception)
    with Journal(book) as journal:
        data = read_run(journal)
    ceiling = ceiling_of(data.run.facts, 1)
    assert ceiling is not None
    assert ceiling.flops_per_second > 1e6
    assert "in C" in source_of(data.run.facts)
    table = latency_table(data)
    (row,) = table.rows
    column = [one.text for one in COLUMNS].index("roofline")
    assert row[column].text.endswith(("%", "% m"))
    assert (
        f"percent of the roofline: of {source_of(data.run.facts)}, measured in the same run" in table.remarks
    )
