"""Do loaded workers of *other* frameworks disturb the one being measured? An A/A test with and without them.

The same two workers are measured in turns of one comparison each, with the neighbours awake or stopped by the
kernel (SIGSTOP: they hold their memory and can use no processor), in seeded random order. So whatever happens
to the machine meanwhile happens to both.
"""

import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from adapters.catalogue import adapter
from adapters.protocol import Setting
from benchsuite.device.local import LocalDevice, LocalProcess
from benchsuite.doctor import Report, Trial, measure_blocks
from benchsuite.loaded import Loaded, loaded
from benchsuite.policy import Policy
from benchsuite.stats import Floats, Interval, speedup
from models.errors import BenchError
from models.model import Model

SETTLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Beside:
    """The A/A test alone and beside idle workers; `absent` is why a neighbour could not be loaded."""

    alone: Trial
    beside: Trial
    comparisons: int
    neighbours: tuple[str, ...]
    absent: Mapping[str, str] = field(default_factory=dict)

    def slowdown(self, level: float) -> Interval:
        """Latency beside the neighbours ÷ latency alone, from the medians of whole comparisons in pairs."""
        return speedup(self._medians(self.beside), self._medians(self.alone), level=level)

    def _medians(self, trial: Trial) -> Floats:
        both = np.stack([trial.first, trial.second]).reshape(2, self.comparisons, -1)
        return np.asarray(np.median(both, axis=(0, 2)), np.float64)


def run_beside(
    device: LocalDevice,
    model: Model,
    framework: str,
    threads: int,
    *,
    neighbours: Sequence[str],
    policy: Policy,
    cache: Path,
    blocks: int,
    comparisons: int,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> Beside:
    """Measure `comparisons` comparisons of `blocks` blocks alone, and as many beside `neighbours`.

    Raises `BenchError` when the framework itself cannot run the network, or no neighbour can.
    """
    setting = Setting(threads, "fp32")
    order = random.Random(seed)
    found: dict[bool, list[Trial]] = {False: [], True: []}
    with ExitStack() as workers:
        load = partial(loaded, device, model=model, setting=setting, policy=policy, cache=cache)
        pair = [workers.enter_context(load(adapter=adapter(framework))) for _ in range(2)]
        beside, absent = dict[str, Loaded](), dict[str, str]()
        for name in neighbours:
            try:
                beside[name] = workers.enter_context(load(adapter=adapter(name)))
            except BenchError as error:
                absent[name] = error.what
        if not beside:
            raise BenchError(f"no neighbour could be loaded: {absent}", where="--idle")
        processes = [_process(one) for one in beside.values()]
        workers.callback(_let, processes, True)
        for number in range(comparisons):
            for awake in order.sample((False, True), 2):
                _let(processes, awake)
                found[awake].append(measure_blocks(pair, policy, blocks, order.randrange(2**31)))
            report(number + 1, comparisons)
    return Beside(_joined(found[False]), _joined(found[True]), comparisons, tuple(beside), absent)


def _process(one: Loaded) -> int:
    process = one.worker.process
    assert isinstance(process, LocalProcess)
    return process.pid


def _let(processes: Sequence[int], awake: bool) -> None:
    """Stop the processes or let them go on, and wait until that has settled."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT if awake else signal.SIGSTOP)
    time.sleep(SETTLE_SECONDS)


def _joined(trials: Sequence[Trial]) -> Trial:
    series = tuple(sample for trial in trials for sample in trial.series_ns)
    first, second = (np.concatenate([getattr(one, side) for one in trials]) for side in ("first", "second"))
    return Trial(first, second, series, float(np.mean([one.seconds_a_block for one in trials])))
