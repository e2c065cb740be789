"""MNN's benchmark loop in a process of its own: `own_tools_mnn.py LIBRARY FILE THREADS WARM_UP RUNS INPUTS`.

Prints the seconds of every timed run, one a line.
"""

import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np

from adapters.interface import read_interface
from adapters.mnn_convert import WEIGHTS_SUFFIX


def main() -> None:
    """Write the inputs as MNN wants them, load MNN's module for all to see, then the loop."""
    library, path, threads, warm_up, runs, inputs = sys.argv[1:]
    from importlib.util import find_spec

    spec = find_spec("_mnncengine")
    assert spec is not None
    ctypes.CDLL(spec.origin, mode=ctypes.RTLD_GLOBAL)
    loop = ctypes.CDLL(library).bench_mnn
    found = (ctypes.c_double * int(runs))()
    with tempfile.TemporaryDirectory() as folder:
        keys, files = [], []
        with np.load(inputs, allow_pickle=False) as archive:
            for port in read_interface(Path(path).parent).inputs:
                keys.append(port.key.encode())
                files.append(str(Path(folder) / str(len(files))).encode())
                port.to_native(archive[port.name]).tofile(files[-1].decode())
        words = ctypes.c_char_p * len(keys)
        weights = f"{path}{WEIGHTS_SUFFIX}".encode()
        counts = (int(threads), int(warm_up), int(runs), len(keys))
        error = loop(path.encode(), weights, *counts, words(*keys), words(*files), found)
    if error:
        sys.exit(f"MNN's benchmark loop stopped with error {error}")
    print("\n".join(f"{milliseconds / 1000:.9f}" for milliseconds in found))


if __name__ == "__main__":
    main()
