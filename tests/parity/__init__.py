"""Whole models beside PyTorch's: the same weights, the same batches, the same numbers."""
