"""`bench devices probe` and `restore`, and how `bench devices` shows phones."""

import click
from rich.console import Console

from benchsuite.cli.devices_rows import rows
from benchsuite.cli.options import format_option, print_json
from benchsuite.device.adb.attached import NO_ANSWER
from benchsuite.device.adb.choose import open_link
from benchsuite.device.adb.facts import PROBES, Found, parse_probe, probe_script
from benchsuite.device.adb.files import HOME, WORKERS
from benchsuite.device.adb.hold import release, state_file
from benchsuite.device.adb.phone import PROBE_LIMIT_S, lock_phone
from benchsuite.device.adb.process import end_orphans
from benchsuite.device.adb.reach import Reach
from benchsuite.device.link import LinkDown
from models.errors import BenchError
from reports.as_rich import draw_rich
from reports.table import Table, cells


def draw_rows(console: Console) -> None:
    """The table of phones, then what to do."""
    found, advice = rows()
    head = cells("serial", "state", "model", "chip", "cores", "Android", "memory", "fits")
    drawn = tuple(cells(one.phone.serial, one.phone.state, one.model, *one.values) for one in found)
    if drawn:
        draw_rich(Table("Phones", head, drawn, text_columns=8), console)
    for one in found:
        if one.advice:
            verb = "," if one.phone.state == NO_ANSWER else " is"
            click.echo(f"{one.phone.serial}{verb} {one.phone.state}: {one.advice}")
    if advice:
        click.echo(f"no phone{' of an adb server' if found else ''}: {advice}")


@click.command("probe")
@click.argument("serial", metavar="DEV")
@format_option("rich", "json")
def probe(serial: str, form: str) -> None:
    """Show every fact of a phone: its value, or the reason why it is missing."""
    try:
        answer = open_link(serial).shell(probe_script(), PROBE_LIMIT_S)
    except LinkDown as down:
        raise BenchError(f"the phone does not answer: {down}", where=serial, hint="`bench devices`") from down
    found = parse_probe(answer.out)
    if form == "json":
        facts = {one.name: _as_json(found[one.name]) for one in PROBES}
        print_json("bench.probe/1", serial=serial, facts=facts)
        return
    for chapter in dict.fromkeys(one.chapter for one in PROBES):
        click.echo(chapter)
        for one in PROBES:
            if one.chapter == chapter:
                click.echo(_drawn(one.name, found[one.name]))


def _drawn(name: str, found: Found) -> str:
    """A fact below its name; what a terminal would obey is shown instead, for the text is the phone's."""
    text = found.value if found.value is not None else f"missing ({found.reason})"
    shown = (one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)
    first, *others = "".join(shown).split("\n")
    if not others:
        return f"  {name}: {first}"
    return "\n".join((f"  {name}:", *(f"    {line}" for line in (first, *others))))


def _as_json(found: Found) -> dict[str, str]:
    return {"missing": found.reason} if found.value is None else {"value": found.value}


@click.command("restore")
@click.argument("serial", metavar="DEV")
@click.option("--clean", is_flag=True, help="Also remove everything that bench keeps on the phone.")
def restore(serial: str, clean: bool) -> None:
    """Put back what a run changed on a phone and could not put back itself; end what it left running."""
    link = open_link(serial)
    lock = lock_phone(link.serial)
    try:
        reach = Reach(link, reattach_s=0.0)
        orphans = end_orphans(reach, WORKERS)
        back = release(link.shell, state_file(link.serial))
        if clean:
            link.shell(f"rm -rf {HOME}")
    except LinkDown as down:
        raise BenchError(f"the phone does not answer: {down}", where=serial, hint="`bench devices`") from down
    finally:
        lock.release()
    for change in back:
        click.echo(f"{change.name}: back to {change.before or 'what it was'}")
    click.echo(f"{serial}: {len(back)} changes put back, {orphans} left-over workers ended")
