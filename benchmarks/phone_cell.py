"""Where the time of a cell on the test phone goes, beyond what the worker itself spends: by kind of call.

python -m benchmarks.phone_cell [--blocks 10]
"""

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchsuite.cli.run import Asked, make_job, read_options
from benchsuite.client import WorkerClient
from benchsuite.device.adb.binary import find_adb
from benchsuite.device.adb.files import PhoneFiles
from benchsuite.device.adb.phone import AdbDevice
from benchsuite.device.adb.process import PhoneProcess
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.journal import Journal
from benchsuite.progress import Quiet
from benchsuite.run import execute
from tests.phone.host import AdbHome, adb_binary
from tests.phone.networks import NETWORKS
from tests.phone.phone import Phone

EMPTY_CALLS = 9
WORKER_FIELDS = ("load_ns", "run_ns", "input_ns", "rewarm_ns")
MEASURED: tuple[tuple[type, str, str], ...] = (
    (AdbDevice, "_enter", "phone: enter"),
    (AdbDevice, "_leave", "phone: leave"),
    (AdbDevice, "ready", "cell: state before"),
    (AdbDevice, "telemetry", "cell: state"),
    (PhoneFiles, "bring", "cell: push"),
    (AdbDevice, "pull", "cell: pull"),
    (PhoneProcess, "_start", "cell: start"),
    (PhoneProcess, "receive", "cell: requests"),
    (PhoneProcess, "end", "cell: end"),
)


class Clock:
    """Seconds by name; what runs inside something else is taken from the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.link_calls: Counter[str] = Counter()
        self._stack: list[str] = []

    @contextmanager
    def spend(self, name: str) -> Iterator[None]:
        """Time of this name."""
        self._stack.append(name)
        self.counts[name] += 1
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self._stack.pop()
            self.seconds[name] += spent
            if self._stack:
                self.seconds[self._stack[-1]] -= spent

    def reset(self) -> None:
        """From here on only."""
        for one in (self.seconds, self.counts, self.link_calls):
            one.clear()

    def around(self, owner: type, method: str, name: str) -> None:
        """Measure every call of a method."""
        inner: Callable[..., Any] = getattr(owner, method)

        def measured(*words: Any, **named: Any) -> Any:
            with self.spend(name):
                return inner(*words, **named)

        setattr(owner, method, measured)

    def count_link_calls(self) -> None:
        """Count what goes over the link, by who asked."""
        inner = AdbServerLink._call

        def counted(link: AdbServerLink, words: Any, timeout_s: float) -> Any:
            self.link_calls[self._stack[-1] if self._stack else "other"] += 1
            return inner(link, words, timeout_s)

        AdbServerLink._call = counted  # type: ignore[method-assign]


class Worked(Counter[str]):
    """Seconds that workers say that they spent themselves: loading and running the network."""

    def count(self) -> None:
        """Listen to every reply."""
        inner = WorkerClient.ask

        def ask(client: WorkerClient, request: Any, *, timeout_seconds: float) -> dict[str, Any]:
            reply = inner(client, request, timeout_seconds=timeout_seconds)
            values = [reply.get(name, 0) for name in WORKER_FIELDS]
            self["worker"] += sum(sum(one) if isinstance(one, list) else one for one in values)
            return reply

        WorkerClient.ask = ask  # type: ignore[method-assign]


def main() -> None:
    """Two runs of the small networks with `ours`, the second with nothing of them on the phone: the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10)
    blocks = parser.parse_args().blocks
    clock, worked = Clock(), Worked()
    worked.count()
    for owner, method, name in MEASURED:
        clock.around(owner, method, name)
    clock.count_link_calls()
    with tempfile.TemporaryDirectory() as temporary, phone_and_home(Path(temporary)) as phone:
        run(phone, Path(temporary), 1)  # compiles
        shutil.rmtree(phone.tmp / "bench/files")
        clock.reset()
        worked.clear()
        empty = [seconds_of_empty_call(phone)]
        wall, cells = run(phone, Path(temporary), blocks)
        empty.append(seconds_of_empty_call(phone))
    print_table(clock, wall, cells, worked["worker"] / 1e9)
    print(f"an empty call: {empty[0]:.2f} s before, {empty[1]:.2f} s after")


def seconds_of_empty_call(phone: Phone) -> float:
    """Median: what nothing but the way there and back costs, on this machine in this minute."""
    link, seconds = AdbServerLink(find_adb(), phone.serial), []
    for _ in range(EMPTY_CALLS):
        start = time.monotonic()
        link.shell("true")
        seconds.append(time.monotonic() - start)
    return median(seconds)


@contextmanager
def phone_and_home(folder: Path) -> Iterator[Phone]:
    """A test phone, attached to a server of its own."""
    home = AdbHome(folder / "adb", str(adb_binary()))
    os.environ.update(home.environment, BENCH_DEVICE_STATE=str(folder / "state"))
    try:
        with Phone() as phone:
            phone.authorise(home.public_key)
            home.connect(phone.serial)
            yield phone
    finally:
        home.close()


def run(phone: Phone, folder: Path, blocks: int) -> tuple[float, int]:
    """A whole run; returns its seconds and how many cells it had, all of them ok."""
    networks = [str(write(folder / f"{name}.onnx")) for name, write in NETWORKS.items()]
    settings = (f"least_blocks={blocks}", f"most_blocks={blocks}", "probe_seconds=0", "settle_seconds=5")
    options = read_options(
        Asked(",".join(networks), "ours", phone.serial, None, None, None, (), settings, None)
    )
    start = time.monotonic()
    with Journal(folder / "journal.db") as book:
        device = AdbDevice(phone.serial, AdbServerLink(find_adb(), phone.serial))
        with closing(device):
            number, _ = execute(make_job(book, options, device, folder / "cache", None, None, Quiet()))
        statuses = [cell.outcome and str(cell.outcome.status) for cell in book.cells(number)]
    assert set(statuses) == {"ok"}, statuses
    return time.monotonic() - start, len(statuses)


def print_table(clock: Clock, wall: float, cells: int, worked: float) -> None:
    """Seconds by kind, then the figure."""
    print(f"{'':20} {'seconds':>8} {'times':>6} {'calls over the link':>20}")
    for name, seconds in sorted(clock.seconds.items()):
        print(f"{name:20} {seconds:8.2f} {clock.counts[name]:6} {clock.link_calls[name]:20}")
    of_cells = sum(seconds for name, seconds in clock.seconds.items() if name.startswith("cell")) - worked
    print(f"{'all':20} {wall:8.2f}, of it {worked:.2f} s in which a worker says that it worked")
    calls = sum(count for name, count in clock.link_calls.items() if name.startswith("cell")) / cells
    print(f"{cells} cells: harness {of_cells / cells:.2f} s and {calls:.0f} calls over the link a cell")


if __name__ == "__main__":
    main()
