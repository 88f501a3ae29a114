"""Tests of Tensor, autograd and the primitive operations."""
