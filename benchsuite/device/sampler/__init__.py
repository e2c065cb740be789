"""A program of a few kB that tells what a device does meanwhile: built here, static, runs anywhere."""
