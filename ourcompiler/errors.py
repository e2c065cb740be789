"""What a user of the compiler can meet: which network cannot be compiled, where, and what to try."""

from models.errors import BenchError


class CompileError(BenchError):
    """A network, or a file of the compiler's own, that cannot be compiled; names the node if it can."""


class InvalidGraphError(CompileError):
    """A step of the compiler left a graph that breaks a promise: a bug of ours, or a file changed by hand."""
