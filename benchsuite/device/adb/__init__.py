"""Phones over ADB: the link, what a phone says of itself, how it is held still, workers that outlive the
cable.
"""
