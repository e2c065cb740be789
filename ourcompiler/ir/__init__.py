"""The two forms of a network inside the compiler, both frozen, both printable: no operator is known here."""
