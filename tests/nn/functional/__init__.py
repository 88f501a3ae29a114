"""Tests of minigrad.nn.functional, a file a family."""
