"""Counting and measuring: arrays in, frozen results out; no backend, no I/O, no pytest."""
