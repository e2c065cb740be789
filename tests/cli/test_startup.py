"""`bench --help` must be quick: it imports nothing heavy.

The time itself is measured by benchmarks/startup.py.
"""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "onnx", "onnxruntime", "rich", "scipy", "psutil", "importlib_metadata", "asyncio"}


@pytest.mark.parametrize("typed", [["--help"], ["--version"], ["rnu"], []])
def test_help_imports_nothing_heavy(typed: list[str]) -> None:
    program = (
        "import sys\n"
        "from benchsuite.cli.main import main\n"
        f"sys.argv = ['bench', *{typed!r}]\n"
        "try: main()\n"
        "finally: print('\\n' + ' '.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if typed and typed[0].startswith("--") else 2)
    loaded = set(done.stderr.split("\n")[-2].split())
    assert "click" in loaded
    assert loaded & HEAVY == set()
