"""The primitive operations, each a `Function`: forward and backward side by side.

Arrays in, arrays out; written once for NumPy and CuPy. Whatever can be composed from these (variance,
softmax, the from-scratch batch norm) is composed, and autograd does the rest. The user's names for them
are the methods of `Tensor` and the functions in `functions.py`.
"""
