"""A program of a few kB that measures what a device does at most: built here, static, runs anywhere."""
