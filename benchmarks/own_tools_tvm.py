"""TVM's own `time_evaluator`: `own_tools_tvm.py FILE OPTIONS THREADS WARM_UP RUNS INPUTS`.

A process of its own; prints the seconds of every timed run, one a line.
"""

import json
import sys
from pathlib import Path

import numpy as np

from adapters.catalogue import adapter
from adapters.protocol import Prepared, Setting


def main() -> None:
    """Load as bench does, and time the virtual machine's entry point with TVM's evaluator, run by run."""
    path, options, threads, warm_up, runs, inputs = sys.argv[1:]
    prepared = Prepared(Path(path), options=json.loads(options))
    session = adapter("tvm").load(prepared, Setting(int(threads), "fp32"))
    with np.load(inputs, allow_pickle=False) as archive:
        values = {name: archive[name] for name in archive.files}
    session.feed(values)
    for _ in range(int(warm_up)):
        session.run()
    import tvm

    machine = session._machine  # type: ignore[attr-defined]  # what is timed is TVM's, not the session
    evaluator = machine.time_evaluator("invoke_stateful", tvm.cpu(), number=1, repeat=int(runs))
    for seconds in evaluator("main").results:
        print(f"{seconds:.9f}")


if __name__ == "__main__":
    main()
