"""Fast kernels in plain NumPy.

Three things make them fast: the batch is the last dimension in memory, so that every row is long and
contiguous; convolutions are few large matrix products; and the batch is worked on in shards that stay in
the cache, by as many threads as there are cores. Read `threads.py`, `conv.py`, `block.py`, `dense.py`.
"""
