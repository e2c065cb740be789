"""`bench`: the table of commands. A command's module is imported when it is used, so that `--help` is
quick.
"""

import errno
import os
import sys
from importlib import import_module

import click

from models.errors import BenchError
from models.suggest import nearest

COMMANDS = {
    "run": "Measure networks × frameworks on a device; print the speedup table.",
    "report": "Draw the tables of a run from the journal.",
    "runs": "List the runs in the journal.",
    "compare": "Compare two runs or journals; exit code 1 on a regression.",
    "breakdown": "Print where a network's time goes in every framework, by its ONNX nodes.",
    "nightly": "Measure, compare with the last good night, write the page: for cron.",
    "accept": "Accept a slower night as the level that later nights are compared with.",
    "export": "Write a run into one file, with every raw sample and hashes.",
    "verify": "Recompute the tables of an exported run from its raw samples.",
    "reproduce": "Measure one cell of an exported run again, here.",
    "models": "List, show, check and export the networks.",
    "compile": "Compile a network with ourcompiler; show every step, kernel and layout.",
    "kernels": "Measure single operators of the networks, percent of the device's peak.",
    "fusion": "Merge and show databases of measured fusions.",
    "tilings": "Merge and show what searches found out about cutting products.",
    "profile": "Print where a framework spends its time on a network.",
    "frameworks": "List the frameworks, what is installed, their variants; install one.",
    "devices": "List the devices that can be measured on.",
    "doctor": "Measure how far this machine's numbers can be trusted (A/A test).",
}

SYSTEM_HINTS = {
    errno.ENOSPC: "free some disk space; what was measured is kept: `bench run --resume`",
    errno.EDQUOT: "free some disk space; what was measured is kept: `bench run --resume`",
    errno.EACCES: "make it readable and writable, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "remove the file that is in the way, or choose another place",
    errno.EEXIST: "remove the file that is in the way, or choose another place",
}
"""What to try when the operating system refuses something, by its error number."""

EXIT_CODES = """\b
Exit codes: 0 every cell ok (or refused) · 1 a cell failed, crashed, timed out, ran
out of memory or gave wrong outputs, something became slower, or a table does not
follow from its samples · 2 wrong usage or unusable input · 3 nothing was measured ·
4 the budget ended first · 130 interrupted (130 and 4: --resume)."""


class Commands(click.Group):
    """Finds commands in the table and suggests the nearest one for an unknown name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"benchsuite.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's own, with a suggestion for a mistyped name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"no command {args[0]!r}: {nearest(args[0], COMMANDS, otherwise='see `bench --help`')}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List from the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bench", message="bench %(version)s")
def cli() -> None:
    """Compare DNN inference frameworks on real networks: interleaved, with intervals, outputs checked.

    First try: bench run --models quick
    """


def main() -> None:
    """Run the command line; an error of the user's is a message, not a traceback."""
    try:
        cli.main(prog_name="bench", standalone_mode=False)
    except BenchError as error:
        _fail(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        known = f"`{context.command_path} --help`" if context else "`bench --help`"
        _fail(f"{error.format_message()}\n  try: {known}", 2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output is gone (`bench report | head`): not worth a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        hint = SYSTEM_HINTS.get(error.errno or 0, "choose another place with --cache or --journal")
        _fail(f"{error.filename or 'system'}: {error.strerror or error}\n  try: {hint}", 2)


def _fail(text: str, code: int) -> None:
    click.echo(f"{click.style('error:', fg='red')} {text}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
