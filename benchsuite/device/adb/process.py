"""A worker on the phone: detached, asked by files, so that a pulled cable costs waiting and nothing else.

Nobody polls while it measures: one call hands over the request and sleeps on the phone until the worker
wakes it, or for `POLL_S`; see `adapters/mailbox.py` for the files.
"""

import json
import secrets
import shlex
import time
from collections.abc import Mapping
from typing import Any, Protocol

from benchsuite.device.adb.reach import Reach, full
from benchsuite.device.protocol import DeviceRestarted, Ending, Silence

POLL_S = 5
CALL_SLACK_S = 30.0
LOG_TAIL_BYTES = 4000
LEAST_FREE_KILOBYTES = 512
MEMORY_KILLERS = ("kernel", "lmkd")
"""Whom a SIGKILL that was not ours came from: the kernel's counter rose, or Android's log names us."""
DEAD, RUNNING, ENDED, NOT_BEGUN = 42, 41, 45, 46
"""`ENDED`: from outside, because whoever waits for the worker's own end is gone too."""
MOST_POLLS_TO_BEGIN = 6

FUNCTIONS = r"""
started() { { l=$(</proc/$1/stat); } 2>/dev/null || return 1
    set -- ${l##*\) }; [ "$1" != Z ] && echo ${20}; }
alive() { [ -n "$1" ] && [ "$(started $1)" = "$2" ]; }
is_alive() { { read -r p s < "$1"; } 2>/dev/null && alive "$p" "$s"; }
kills() { grep '^oom_kill ' /proc/vmstat 2>/dev/null | { read -r k n; echo "$n"; }; }
move() { rename "$1" "$2" 2>/dev/null || mv -f "$1" "$2"; }
"""
"""A process is known by number and start time (field 22 of its stat); a number alone may be another's by
now. `kills` counts what the kernel's memory killer has ended since boot, where the shell may read that.
`rename` and `print` are Android's shell's own: no program is started.
"""

# A worker that cannot be written down could not be ended either: it does not begin.
RUN_SCRIPT = (
    FUNCTIONS
    + r"""
echo $$ $(started $$) > session.part && move session.part session || exit 43
kills > kills
%(setup)s
%(command)s > log 2>&1 < /dev/null &
echo $! $(started $!) > worker.part && move worker.part worker || { kill -9 $!; exit 43; }
wait $!
echo $? > rc.part && move rc.part rc
is_alive waiter && kill -USR1 $p
"""
)

START_SCRIPT = (
    FUNCTIONS
    + r"""
mkdir -p %(folder)s && cd %(folder)s || exit 43
[ -e run.sh ] || {
    print -r -- %(script)s > run.part && move run.part run.sh || exit 43
    setsid nohup sh run.sh < /dev/null > /dev/null 2>&1 & }
"""
)
"""Goes over together with the first request. `run.sh` in its place says that it was started."""

REQUEST_SCRIPT = r"""
[ -e request-%(number)d ] || {
    print -r -- %(line)s > request.part && move request.part request-%(number)d; }
"""

ASK_SCRIPT = (
    FUNCTIONS
    + r"""
cd %(folder)s || exit 42
trap : USR1
sleep %(seconds)d < /dev/null > /dev/null 2>&1 & sleeper=$!
trap "kill $sleeper 2>/dev/null" USR1
echo $$ $(started $$) > waiter || { kill $sleeper; exit 43; }
{ """
    + REQUEST_SCRIPT
    + r""" } || { kill $sleeper; exit 43; }
[ %(number)d = 0 ] || { is_alive worker && kill -USR1 $p; }
if [ -e reply-%(number)d ] || [ -e rc ] || { [ -e session ] && ! is_alive session; }; then
    kill $sleeper 2>/dev/null; fi
wait $sleeper
[ -e reply-%(number)d ] && { print -r -- "$(<reply-%(number)d)"; %(along)sexit 0; }
[ -e rc ] && exit 42
[ -e session ] && is_alive session && exit 41
[ -e rc ] && exit 42
echo room > room || exit 43
[ -e session ] && exit 45
exit 46
"""
)
"""`waiter` needs no renaming: a worker that reads half of it has replied before, and that is looked for
afterwards. What comes along with a reply is looked at after it: the worker has nothing to do then.
"""

END_SCRIPT = (
    FUNCTIONS
    + r"""
cd %(folder)s 2>/dev/null || exit 0
%(farewell)s
n=0; while [ ! -e session ] && [ $n -lt 20 ]; do sleep 0.1; n=$((n + 1)); done
n=0; while is_alive session && [ $n -lt %(tenths)d ]; do sleep 0.1; n=$((n + 1)); done
code=forced
is_alive session && kill -9 -$p || { { read -r code < rc; } 2>/dev/null; }
killer=-
if [ "$code" = 137 ]; then
    { read -r before < kills; read -r p s < worker; } 2>/dev/null
    [ -n "$before" ] && [ "$(kills)" -gt "$before" ] 2>/dev/null && killer=kernel
    logcat -d -s lowmemorykiller lmkd 2>/dev/null | grep -q "($p)" && killer=lmkd
fi
echo "$code $(df -k . | { read -r h; read -r a b c d e; echo $d; }) $killer"
[ -s log ] && tail -c %(tail)d log
cd / && rm -rf %(folder)s
"""
)


class Runner(Protocol):
    """How requests of the worker's protocol become a program on the phone, and its answers replies."""

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        """What `run.sh` does before, and the command of, the worker for a first request; what must be on the
        phone is brought there. Raises `RunnerRefusal`.
        """

    def line(self, request: Mapping[str, Any]) -> str:
        """The request as this program reads it."""

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """What the program answered, as the worker's protocol has it."""


class Along(Protocol):
    """What else a reply is to bring, in the same call."""

    def errand(self) -> str:
        """The script, or nothing."""

    def take(self, text: str) -> object:
        """What it said."""


class RunnerRefusal(Exception):  # noqa: N818  (a reply of the protocol)
    """A worker cannot answer that; the text is the reason of a refusal."""


class PhoneProcess:
    """One worker. It starts with the first request, which says what it is for; a request that its program
    does not know is refused without asking.
    """

    def __init__(self, reach: Reach, folder: str, choose: Any, along: Along | None = None) -> None:
        self._reach, self._folder, self._choose, self._along = reach, folder, choose, along
        self._runner: Runner | None = None
        self._number = -1
        self._request: Mapping[str, Any] = {}
        self._refusal = self._starting = ""
        self._ending: Ending | None = None
        self._mark = f"@along-{secrets.token_hex(8)}"

    def send(self, line: str) -> None:
        """Keep the request: it goes over together with the first wait for its reply."""
        self._request, self._refusal = json.loads(line), ""
        if self._request["do"] == "quit":
            return
        try:
            if self._runner is None:
                self._runner = self._start(self._request)
            self._runner.line(self._request)
            self._number += 1
        except RunnerRefusal as refusal:
            self._refusal = str(refusal)

    def receive(self, timeout_seconds: float) -> str | None:
        """The reply; raises `Silence`, and `DeviceLost`. Time without the phone does not count."""
        if self._refusal:
            return json.dumps({"ok": False, "kind": "refused", "error": self._refusal})
        assert self._runner is not None
        line = self._runner.line(self._request)
        deadline, not_begun = time.monotonic() + timeout_seconds - self._reach.outage_s, 0
        while (left := deadline + self._reach.outage_s - time.monotonic()) > 0:
            answer = self._reach.shell(
                self._ask(line, min(POLL_S, max(1, round(left)))), POLL_S + CALL_SLACK_S
            )
            if answer.code == 0:
                reply, brought, text = answer.out.partition(f"\n{self._mark}\n")
                if self._along and brought:
                    self._along.take(text)
                return self._reply(reply)
            if answer.code == DEAD:
                return None
            not_begun += answer.code == NOT_BEGUN
            if answer.code == ENDED or not_begun >= MOST_POLLS_TO_BEGIN:
                raise DeviceRestarted(
                    f"{self._reach.serial}: what ran there was ended (adbd restarted, or no room)"
                )
            if answer.code not in (RUNNING, NOT_BEGUN):
                raise full(self._reach.serial, answer.err)
        raise Silence

    def end(self, *, grace_seconds: float = 0.0) -> Ending:
        """End the worker and all that it started, take its last words, remove its folder."""
        if self._ending is None:
            self._ending = self._end(grace_seconds)
        return self._ending

    def _start(self, request: Mapping[str, Any]) -> Runner:
        runner: Runner = self._choose(request)
        setup, command = runner.begin(request)
        self._starting = START_SCRIPT % {
            "folder": shlex.quote(self._folder),
            "script": shlex.quote(RUN_SCRIPT % {"setup": setup, "command": command}),
        }
        return runner

    def _ask(self, line: str, seconds: int) -> str:
        errand = self._along.errand() if self._along else ""
        return (self._starting if self._number == 0 else "") + ASK_SCRIPT % {
            "folder": shlex.quote(self._folder),
            "line": shlex.quote(line),
            "number": self._number,
            "seconds": seconds,
            "along": f"trap : USR1\necho {self._mark}\n{errand}\n" if errand else "",
        }

    def _reply(self, text: str) -> str:
        assert self._runner is not None
        try:
            return json.dumps(self._runner.reply(self._request, text))
        except (ValueError, KeyError, TypeError):
            return text.strip()  # the client calls it garbage, and shows it

    def _end(self, grace_seconds: float) -> Ending:
        if self._runner is None:
            return Ending(exit_code=0, log_tail="")
        farewell = ""
        if grace_seconds and self._request.get("do") == "quit":
            self._number += 1
            line = shlex.quote(self._runner.line({"do": "quit"}))
            request = REQUEST_SCRIPT % {"number": self._number, "line": line}
            farewell = f"{request} is_alive worker && kill -USR1 $p"
        script = END_SCRIPT % {
            "folder": shlex.quote(self._folder),
            "farewell": farewell,
            "tenths": round(grace_seconds * 10),
            "tail": LOG_TAIL_BYTES,
        }
        answer = self._reach.try_shell(script, CALL_SLACK_S + grace_seconds)
        if answer is None or not answer.out.strip():
            return Ending(exit_code=None, log_tail="")
        first, _, tail = answer.out.partition("\n")
        code, free, killer = (*first.split(), "", "", "")[:3]
        if code not in ("0", "forced") and free.isdecimal() and int(free) < LEAST_FREE_KILOBYTES:
            raise full(self._reach.serial, tail)
        return Ending(exit_code(code), tail.strip(), killed_for_memory=killer in MEMORY_KILLERS)


def exit_code(text: str) -> int | None:
    """A shell's exit code as Python's: 137 is -9; None for a process that had to be ended."""
    if not text.isdecimal():
        return None
    code = int(text)
    return 128 - code if code > 128 else code


def end_orphans(reach: Reach, parent: str) -> int:
    """End every worker that an earlier run left under `parent`, known by number and start time; returns how
    many there were.
    """
    script = (
        FUNCTIONS
        + f"cd {shlex.quote(parent)} 2>/dev/null || exit 0; n=0\n"
        + 'for one in */; do [ -d "$one" ] || continue;'
        + ' is_alive "$one/session" && kill -9 -$p && n=$((n + 1));'
        + ' rm -rf "$one"; done; echo $n'
    )
    words = reach.shell(script).out.split()
    return int(words[-1]) if words and words[-1].isdecimal() else 0
