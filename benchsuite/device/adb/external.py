"""A program of the user's own on a phone: started anew for every turn by a shell that is asked by files, so
that a pulled cable costs waiting and nothing else (docs/runners.md).
"""

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.external import (
    LEAST_WARM_UP,
    SIGNAL_BASE,
    Ended,
    External,
    Given,
    NoTimesError,
    answer_of,
    line_of,
    load_reply,
    run_reply,
    why_unchecked,
)
from adapters.external_files import interface_of, read_outputs, write_inputs
from adapters.interface import Interface
from adapters.protocol import Crashed, Unsupported
from adapters.runners import existing_files
from adapters.worker import OUT_OF_MEMORY_TEXTS, setting_of
from benchsuite.device.adb.ours import Place, RawOutputs
from benchsuite.device.adb.process import RunnerRefusal

MOST_SAID_BYTES = 1_000_000
TICK_NS = 10_000_000
"""One tick of /proc/PID/stat, and one digit of /proc/uptime: a hundredth of a second."""

SERVE = r"""
clock() { read -r up rest < /proc/uptime; up=${up%%.*}${up#*.}; }
children_ticks() { read -r l < /proc/self/stat; set -- ${l##*\) }; ticks=$((${14} + ${15})); }
await_request() {
    waited=0
    while [ ! -e request-$1 ]; do
        [ $waited -lt 240 ] || return 1
        sleep 30 < /dev/null > /dev/null 2>&1 & sleeper=$!
        trap '[ -n "$sleeper" ] && kill $sleeper 2>/dev/null' USR1
        [ -e request-$1 ] && kill $sleeper 2>/dev/null
        wait $sleeper 2>/dev/null
        sleeper= waited=$((waited + 1))
    done
    read -r what first second < request-$1
}
start_program() {
    rm -f output-*
    clock; from=$up; children_ticks; used=$ticks
    ( %(limit)s%(variables)s
    if [ $what = load ] && %(has_version)s; then
        %(version)s > version 2>&1 || { code=$?; cat version; exit $code; }
    fi
    runs=$first warmup=$second
    exec %(command)s ) > said 2>&1 < /dev/null
    code=$?
    clock; children_ticks
    echo "$code $((up - from)) $((ticks - used))"
}
write_reply() {
    case $what in
        load|run) start_program > header
            { cat header; [ $what = run ] || head -n 1 version; tail -c %(most)d said; } > reply.part
            [ $code = 0 ] || tail -c 2000 said;;
        outputs) { cat %(outputs)s > "$first" && echo 0 0 0; } > reply.part 2>&1 || echo 1 0 0 > reply.part;;
        *) echo 0 0 0 > reply.part;;
    esac
    mv reply.part reply-$1
}
serve_program() {
    trap : USR1
    echo > version
    what=load first=1 second=%(warmup)d n=0
    while write_reply $n; do
        is_alive waiter && kill -USR1 $p
        [ "$what" != quit ] || exit 0
        n=$((n + 1))
        await_request $n || exit 0
    done
    exit 1
}
"""
"""`started` and `is_alive` are those of `process.py`, in the same script. The first request is known without
being read, as for `ours`: nobody sends a signal for it.
"""


STAYING = r"""
serve_program() {
    trap : USR1
    echo > version
    if %(has_version)s; then %(version)s > version 2>&1 || { cat version; exit 1; }; fi
    mkfifo in out || exit 1
    ( %(limit)s%(variables)s
    exec %(command)s ) < in > out & program=$!
    exec 3> in 4< out
    trap '' PIPE
    n=0
    while head -n 1 <&4 > answer && [ -s answer ]; do
        { [ $n != 0 ] || head -n 1 version; cat answer; } > reply.part && mv reply.part reply-$n || exit 1
        is_alive waiter && kill -USR1 $p
        [ "$what" != quit ] || exit 0
        n=$((n + 1))
        await_request $n || exit 0
        echo "$what${first:+ $first}${second:+ $second}" >&3
    done
    wait $program
    exit $?
}
"""
"""A program that stays. `head` waits for its answer: a signal to this shell must not break that off."""


class ExternalRunner:
    """Requests as lines `WHAT RUNS WARMUP`; replies are a line of numbers and all that the program said."""

    def __init__(self, framework: External, place: Place, raw: dict[str, RawOutputs]) -> None:
        """`raw` is told which files hold plain bytes, so that pulling them makes arrays."""
        self._framework, self._place, self._raw = framework, place, raw
        self._given: Given
        self._interface: Interface
        self._placement = ""

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        """Bring the program's files, the model and the inputs over."""
        place, program = self._place, self._framework.program
        try:
            self._interface = interface_of(program, place.local_of(request["path"]))
        except Unsupported as reason:
            raise RunnerRefusal(str(reason)) from reason
        files = self._pushed(list(existing_files(program)), "files")
        archive = place.local_of(request["inputs"])
        folder = self._folder("inputs")
        inputs = self._pushed(list(write_inputs(self._interface, archive, folder)), "pushed")
        place.bring([*files, request["path"], *inputs])
        cores = tuple(request.get("cores", ()))
        self._placement = f"within cores {', '.join(map(str, cores))}" if cores else "scheduler's choice"
        self._given = Given(
            program=program,
            files=files[0].rpartition("/")[0],
            model=request["path"],
            setting=setting_of(request),
            cores=cores,
            inputs=tuple(inputs),
            outputs=tuple(f"{place.folder}/output-{one}" for one in range(len(self._interface.outputs))),
        )
        setup = f"chmod 755 {shlex.join(files)}\n" + self._script(request.get("memory_limit_bytes"))
        return setup, "serve_program"

    def line(self, request: Mapping[str, Any]) -> str:
        """What shell or program reads: one word, then two numbers or a path of bench's own."""
        doing, program = request["do"], self._framework.program
        if doing == "load":
            return ""
        if doing == "outputs" and why_unchecked(program):
            return "memory"  # an answer is due, and this one costs nothing
        least = LEAST_WARM_UP if program.times is not None else 0
        try:
            return line_of({**request, "rewarm": max(least, request.get("rewarm", 0))})
        except Unsupported as reason:
            raise RunnerRefusal(str(reason)) from reason

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """The worker's protocol from what the program said; raises ValueError for a reply that broke off."""
        if self._framework.program.times is None:
            return self._answer(request, text)
        header, _, said = text.partition("\n")
        code, spent, used = map(int, header.split())
        doing, program = request["do"], self._framework.program
        if doing == "memory":
            return {"ok": True, "memory_peak_bytes": 0, "memory_now_bytes": 0}
        if doing == "outputs":
            return self._outputs(request["path"], code)
        version, _, rest = said.partition("\n") if doing == "load" else ("", "", said)
        ended = Ended(
            SIGNAL_BASE - code if code > SIGNAL_BASE else code, rest, spent * TICK_NS, used * TICK_NS
        )
        try:
            if doing == "load":
                facts = self._given.facts(self._framework.fingerprint, version.strip(), self._placement)
                return {"ok": True, **load_reply(program, ended, facts)}
            return {"ok": True, **run_reply(program, ended, request["iterations"], self._placement)}
        except (Crashed, NoTimesError) as error:
            memory = any(word in rest.lower() for word in OUT_OF_MEMORY_TEXTS)
            kind = "oom" if memory else "crashed" if isinstance(error, Crashed) else "failed"
            return {"ok": False, "kind": kind, "error": str(error)}

    def arrays(self, raw: bytes) -> dict[str, Any]:
        """Outputs by name; raises `BenchError` when the bytes do not fit."""
        return read_outputs(self._interface, raw)

    def _answer(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """Of a program that stays: its line, after that of its version for the first."""
        doing, told = request["do"], dict[str, Any]()
        if doing == "outputs" and why_unchecked(self._framework.program):
            return {"ok": True, "recorded_error": None}
        if doing == "load":
            version, _, text = text.partition("\n")
            told["facts"] = self._given.facts(self._framework.fingerprint, version.strip(), self._placement)
        try:
            answer = answer_of(request, text.strip(), self._placement)
        except RuntimeError as error:
            return {"ok": False, "kind": "failed", "error": str(error)}
        if doing == "outputs":
            self._raw[request["path"]] = self
        return {"ok": True, **told, **answer}

    def _outputs(self, path: str, code: int) -> Mapping[str, Any]:
        if why_unchecked(self._framework.program):
            return {"ok": True, "recorded_error": None}
        if code:
            error = f"{self._framework.name} left not all of its outputs"
            return {"ok": False, "kind": "crashed", "error": error}
        self._raw[path] = self
        return {"ok": True}

    def _folder(self, name: str) -> Path:
        folder = self._place.scratch / f"{self._framework.name}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _pushed(self, files: list[Path], name: str) -> list[str]:
        """Their places there, side by side in one folder, wherever they are here."""
        if not files:
            return []
        folder = self._folder(name)
        for one in files:
            shutil.copy(one, folder / one.name)
        first, *others = [folder / one.name for one in files]
        there = self._place.push(first, others)
        return [f"{there.rpartition('/')[0]}/{one.name}" for one in files]

    def _script(self, limit_bytes: int | None) -> str:
        given = self._given
        variables = "".join(
            f"export {name}={shlex.quote(value)}\n" for name, value in given.environment().items()
        )
        mask = f"taskset {sum(1 << core for core in given.cores):x} " if given.cores else ""
        script = SERVE + (STAYING if given.program.times is None else "")
        return script % {
            "limit": f"ulimit -d {limit_bytes // 1024}\n" if limit_bytes else "",
            "variables": variables,
            "has_version": "true" if given.version() else "false",
            "version": shlex.join(given.version()) or ":",
            "command": mask + shell_words(given),
            "outputs": shlex.join(given.outputs) or "/dev/null",
            "most": MOST_SAID_BYTES,
            "warmup": LEAST_WARM_UP,
        }


RUNS, WARMUP = "\0runs\0", "\0warmup\0"


def shell_words(given: Given) -> str:
    """The command for a shell: every word quoted, but for the two numbers that it has as variables."""
    words = []
    for word in given.command(RUNS, WARMUP):
        quoted = shlex.quote(word)
        for mark, name in ((RUNS, "runs"), (WARMUP, "warmup")):
            quoted = quoted.replace(mark, f"'\"${name}\"'")
        words.append(quoted)
    return " ".join(words)
