"""How long it takes to draw a network's weights into an empty cache: `python benchmarks/materialize.py
[NAMES]`.
"""

import sys
import tempfile
import time
from pathlib import Path

from models.catalogue import resolve
from models.materialize import materialize


def main() -> None:
    """Print seconds and MB/s for each network; each is drawn into a cache of its own, which is removed
    after.
    """
    selection = sys.argv[1] if len(sys.argv) > 1 else "all"
    for model in resolve(selection):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            materialize(model, Path(folder))
            seconds = time.perf_counter() - start
        megabytes = model.weight_byte_count / 1e6
        print(
            f"{model.name:16} {megabytes:8,.0f} MB {seconds:6.1f} s {megabytes / seconds:6.0f} MB/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
