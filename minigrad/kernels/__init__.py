"""Fast kernels: arrays in, arrays out, no Tensor and no graph.

Nothing here is needed to understand minigrad: each kernel computes what a readable function of
`nn/functional/` computes, and the tests hold the two together. `cpu/` is NumPy.
"""
