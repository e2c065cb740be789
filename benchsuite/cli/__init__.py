"""The command line: the only door that sees every layer."""
