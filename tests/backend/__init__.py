"""Tests of the switch between NumPy and CuPy."""
