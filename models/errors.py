"""The one kind of error a user meets: what went wrong, where, and what to try."""


class BenchError(Exception):
    """An error of the user's input or machine, not a bug of ours; the command line prints it without a
    traceback.

    Every message says what went wrong; `where` names the file, network, tensor or option; `hint` says what to
    try next. Either may be empty when there is nothing useful to say.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}" + (f"\n  try: {self.hint}" if self.hint else "")


class ModelError(BenchError):
    """A network that cannot be used: unknown, unreadable, incomplete, or with unbound dimensions."""
