"""A phone as a device of bench: the same cells, blocks and gate, over ADB, without root."""

import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from adapters.catalogue import adapter, installed_version
from adapters.external import External
from adapters.framework import VARIANT_MARK
from adapters.protocol import Adapter
from benchsuite.device.adb.external import ExternalRunner
from benchsuite.device.adb.facts import cores_of, parse_probe, probe_script, run_facts
from benchsuite.device.adb.files import SCRATCH, WORKERS, PhoneFiles
from benchsuite.device.adb.hold import hold, release, state_file
from benchsuite.device.adb.ours import TARGET, OursRunner, Place, RawOutputs
from benchsuite.device.adb.peak import PeakRunner
from benchsuite.device.adb.process import PhoneProcess, Runner, RunnerRefusal, end_orphans
from benchsuite.device.adb.python import PythonRunner, version_there, why_no_python
from benchsuite.device.adb.reach import REATTACH_S, Reach, Say, nothing
from benchsuite.device.adb.state import why_unfit
from benchsuite.device.adb.watch import StateWatch
from benchsuite.device.frameworks import why_not_machine
from benchsuite.device.link import Link, LinkDown, file_name
from benchsuite.device.protocol import DeviceLost, DeviceRestarted, Fact, Facts, Process, Telemetry
from benchsuite.device.scratch import make_scratch
from benchsuite.policy import Policy
from models.errors import BenchError

OURS = "ours"
MACHINE = "aarch64"
PROBE_LIMIT_S = 120.0
LOOK_EVERY_S = 5.0
LEAVE_S = 10.0
"""A phone that is out of reach at the very end is waited for so long, then left as it is."""
MOST_ENTRIES = 3


class AdbDevice:
    """One phone, locked for this process; changed to hold still, and put back in `close`."""

    target = TARGET

    def __init__(self, name: str, link: Link, *, reattach_s: float = REATTACH_S, say: Say = nothing) -> None:
        self.name = name
        self._lock = lock_phone(link.serial)
        self._scratch = make_scratch()
        try:
            self.reach = Reach(link, reattach_s=reattach_s, say=say)
        except LinkDown as down:
            self._lock.release()
            raise BenchError(
                f"the phone does not answer: {down}", where=link.serial, hint="`bench devices`"
            ) from down
        self._files = PhoneFiles(self.reach)
        self._local: dict[str, Path] = {}
        self._raw: dict[str, RawOutputs] = {}
        self._numbers = count()
        self._gave_up = False
        self._state_file = state_file(link.serial)
        try:
            self._enter()
        except DeviceLost as lost:
            self._lock.release()
            raise BenchError(str(lost), where=name) from lost

    def facts(self) -> Facts:
        """Chip, cores, Android, memory, what was held still and what could not be. A phone that was
        restarted meanwhile is held still anew: some of it does not outlive a restart.
        """
        if self._boot_id != self.reach.boot_id:
            self._enter()
        return self._facts

    def push(self, path: Path, companions: Sequence[Path] = ()) -> str:
        """Say where files will be: they go over, once for a content, when a worker needs them."""
        remote = self._files.place(path, companions)
        self._local[remote] = path
        return remote

    def pull(self, remote: str, path: Path) -> None:
        """Bring a file here; what `ours` wrote as plain bytes becomes the npz that was asked for."""
        self._files.bring([remote])
        self.reach.pull(remote, path)
        runner = self._raw.pop(remote, None)
        if runner is not None:
            arrays = runner.arrays(path.read_bytes())
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        self.reach.later(f"rm -f {shlex.quote(remote)}")

    def scratch(self, name: str) -> str:
        """A file of this run on the phone: letters and digits of the name, whatever else is in it."""
        plain = "".join(
            one if (one.isalnum() and one.isascii()) or one in "-._" else "_" for one in Path(name).name
        )
        return f"{SCRATCH}/{next(self._numbers)}-{plain}"

    def cores(self) -> tuple[int, ...]:
        """Cores that the shell may use, by capacity and clock: the biggest first."""
        return tuple(one.number for one in self._cores)

    def spawn(self, module: str, environment: str) -> Process:
        """A worker that starts with its first request, because that says which program it is."""
        folder = f"{WORKERS}/{next(self._numbers)}"
        return PhoneProcess(self.reach, folder, lambda request: self._runner(folder, request), self._watch)

    def telemetry(self) -> Telemetry:
        """Clocks, heat, battery, load, memory: one round trip, unless they came along with the last reply."""
        return self._watch.now() or self._watch.look()

    def expect_telemetry(self) -> None:
        """The next reply of a worker brings the state along."""
        self._watch.expect()

    def ready(self, policy: Policy, say: Callable[[str], None]) -> Telemetry:
        """Wait for a cool, charged phone. After the longest wait it is measured and every state says why it
        is unfit; it is waited for again once it was fit in between.
        """
        self.reach.say = say
        known, since = self._watch.now(), None
        if known is not None and not why_unfit(known, policy):
            return known
        while True:
            state = self._watch.look()
            reason = why_unfit(state, policy)
            if not reason:
                self._gave_up = False
                return state
            now = time.monotonic()
            since = now if since is None else since
            if self._gave_up or now - since > policy.settle_seconds:
                self._gave_up = True
                return replace(state, unfit=reason)
            say(f"waiting for {self.name}: {reason}")
            time.sleep(min(LOOK_EVERY_S, policy.settle_seconds))

    def why_not(self, framework: Adapter) -> str | None:
        """`ours` needs nothing on the phone, the others their layers, a program of one's own a processor."""
        if isinstance(framework, External):
            return why_not_machine(framework, MACHINE)
        return None if base_name(framework.name) == OURS else why_no_python(self.reach, framework)

    def version_of(self, framework: Adapter) -> str | None:
        """Layers hold the versions that they were made with; `ours` is bench's own, as are programs of the
        user's.
        """
        if isinstance(framework, External) or base_name(framework.name) == OURS:
            return installed_version(framework)
        return version_there(self.reach, framework)

    def close(self) -> None:
        """Put the phone back as it was and end what runs there; what cannot be done now is said, and stays
        written down for `bench devices restore`.
        """
        try:
            self._leave()
        except (LinkDown, DeviceLost) as lost:
            self.reach.say(
                f"{self.name} is not as it was: {lost}; `bench devices restore {self.reach.serial}`"
            )
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._lock.release()

    def _enter(self) -> None:
        """End what an earlier run left, put back what it changed, read the facts, hold the phone still; from
        the beginning when the phone is restarted meanwhile.
        """
        for _ in range(MOST_ENTRIES):
            try:
                return self._enter_once()
            except DeviceRestarted as restart:
                self.reach.say(str(restart))
        raise DeviceLost(f"{self.reach.serial} is restarted again and again")

    def _enter_once(self) -> None:
        self._boot_id = self.reach.boot_id
        end_orphans(self.reach, WORKERS)
        release(self.reach.shell, self._state_file)
        self.reach.shell(f"rm -rf {SCRATCH}; mkdir -p {SCRATCH}")
        found = parse_probe(self.reach.shell(probe_script(), PROBE_LIMIT_S).out)
        held = hold(self.reach.shell, self._state_file, usb=":" not in self.reach.serial)
        self._cores = cores_of(found)
        self._watch = StateWatch(self.reach, self._cores)
        facts: dict[str, Fact] = {**run_facts(found), **{f"held.{name}": what for name, what in held.items()}}
        self._facts: Facts = {"device": self.name, **facts}

    def _leave(self) -> None:
        if not self.reach.answers_within(LEAVE_S):
            raise LinkDown("it does not answer")
        for _ in range(MOST_ENTRIES):
            try:
                end_orphans(self.reach, WORKERS)
                release(self.reach.shell, self._state_file)
                self.reach.shell(f"rm -rf {SCRATCH}")
                return
            except DeviceRestarted:
                continue

    def _runner(self, folder: str, request: Mapping[str, Any]) -> Runner:
        """The program for a first request."""
        place = Place(folder, self._local.__getitem__, self.push, self._files.bring, self._scratch)
        if request["do"] == "probe":
            return PeakRunner(place, MACHINE)
        framework = base_name(str(request.get("framework", "")))
        if not framework:
            raise RunnerRefusal(f"a phone cannot answer `{request['do']}` before a network is loaded")
        if framework == OURS:
            return OursRunner(place, self._raw)
        row = adapter(framework)
        if isinstance(row, External):
            return ExternalRunner(row, place, self._raw)
        return PythonRunner(self.reach, framework, place)


def lock_phone(serial: str) -> FileLock:
    """One bench a phone, whatever cache or journal it uses; several phones side by side. Raises
    `BenchError`.
    """
    path = user_cache_path("bench") / "locks" / f"phone-{file_name(serial)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BenchError(
            "another bench is using this phone", where=serial, hint="wait for it to end, or use another phone"
        ) from None
    return lock


def base_name(framework: str) -> str:
    """A framework's name without its variant."""
    return framework.partition(VARIANT_MARK)[0]
