"""Passes: from a graph to a graph, a file each."""
