"""What to write down about the harness itself: version, commit, and whether the tree was clean."""

import subprocess
from pathlib import Path

from benchsuite.device.host import package_version
from benchsuite.device.protocol import Facts

ROOT = Path(__file__).parent.parent


def harness_facts() -> Facts:
    """Version of bench, git commit and dirty flag of its own checkout (None when it is installed without
    one).
    """
    commit = _git("rev-parse", "HEAD") if (ROOT / ".git").exists() else None
    dirty = bool(_git("status", "--porcelain")) if commit else None
    return {"bench_version": package_version("bench"), "bench_commit": commit, "bench_dirty": dirty}


def version_text() -> str:
    """Version and commit in one line: who wrote a file."""
    facts = harness_facts()
    commit = str(facts["bench_commit"] or "")[:12]
    changed = "changed" if facts["bench_dirty"] else ""
    return " ".join(filter(None, (str(facts["bench_version"] or "unknown"), commit, changed)))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
