"""`bench devices probe` and `restore`, and the attached phones of `bench devices`."""

from dataclasses import dataclass

import click
from rich.console import Console

from benchsuite.cli.options import format_option, print_json
from benchsuite.device.adb.attached import NONE_ADVICE, Attached, attached
from benchsuite.device.adb.binary import Adb, find_adb
from benchsuite.device.adb.choose import open_link, properties_of
from benchsuite.device.adb.facts import PROBES, Found, clusters_text, parse_probe, probe_script
from benchsuite.device.adb.files import HOME, WORKERS
from benchsuite.device.adb.hold import release, state_file
from benchsuite.device.adb.phone import PROBE_LIMIT_S, lock_phone
from benchsuite.device.adb.process import end_orphans
from benchsuite.device.adb.profiles import profiles
from benchsuite.device.adb.reach import Reach
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.link import LinkDown
from models.errors import BenchError
from reports.as_rich import draw_rich
from reports.table import Table, cells


@dataclass(frozen=True, slots=True)
class Row:
    """One attached phone as the list shows it."""

    phone: Attached
    model: str
    values: tuple[str, ...]
    advice: str


def rows() -> tuple[tuple[Row, ...], str]:
    """Attached phones, and what to do when there is none."""
    try:
        adb = find_adb()
        found = tuple(_row(adb, one) for one in attached(adb))
    except (BenchError, LinkDown) as error:
        return (), str(error)
    return found, "" if found else NONE_ADVICE


def _row(adb: Adb, phone: Attached) -> Row:
    if not phone.ready:
        return Row(phone, phone.model, ("", "", "", "", ""), phone.advice)
    try:
        properties = properties_of(adb, phone.serial)
        answer = AdbServerLink(adb, phone.serial).shell(probe_script(), PROBE_LIMIT_S)
    except LinkDown as down:
        return Row(phone, phone.model, ("", "", "", "", ""), f"it does not answer: {down}")
    found = parse_probe(answer.out)
    fitting = ", ".join(one.name for one in profiles().values() if one.fits(properties))
    chip = " ".join(filter(None, (properties.get("ro.soc.manufacturer"), properties.get("ro.soc.model"))))
    kilobytes = [int(one) for one in (found["memory_total"].value or "").split() if one.isdecimal()]
    memory = f"{kilobytes[0] / 2**20:.1f} GiB" if kilobytes else "unknown"
    android = found["ro.build.version.release"].value or "unknown"
    model = properties.get("ro.product.model") or phone.model
    return Row(phone, model, (chip, clusters_text(found), android, memory, fitting or "none"), "")


def draw_rows(console: Console) -> None:
    """The table of attached phones, then what to do."""
    found, advice = rows()
    head = cells("serial", "state", "model", "chip", "cores", "Android", "memory", "fits")
    drawn = tuple(cells(one.phone.serial, one.phone.state, one.model, *one.values) for one in found)
    if drawn:
        draw_rich(Table("Attached phones", head, drawn, text_columns=8), console)
    for one in found:
        if one.advice:
            click.echo(f"{one.phone.serial} is {one.phone.state}: {one.advice}")
    if advice:
        click.echo(f"no phone: {advice}")


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
    link, lock = open_link(serial), lock_phone(serial)
    try:
        reach = Reach(link, reattach_s=0.0)
        orphans = end_orphans(reach, WORKERS)
        back = release(link.shell, state_file(serial))
        if clean:
            link.shell(f"rm -rf {HOME}")
    except LinkDown as down:
        raise BenchError(f"the phone does not answer: {down}", where=serial, hint="`bench devices`") from down
    finally:
        lock.release()
    for change in back:
        click.echo(f"{change.name}: back to {change.before or 'what it was'}")
    click.echo(f"{serial}: {len(back)} changes put back, {orphans} left-over workers ended")
