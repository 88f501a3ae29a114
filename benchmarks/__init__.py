"""Measurements, each a script: see benchmarks/README.md."""
