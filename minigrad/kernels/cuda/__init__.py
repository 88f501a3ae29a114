"""Fast kernels in CUDA C, compiled and started through CuPy.

The kernels are in `sources/`: `common.cuh` (sums in a fixed order), `product.cuh` (one matrix product for
convolutions and linear layers), `norm.cu`, `loss.cu`, `optim.cu`, `gather.cu`. `module.py` compiles them and
starts them; `conv.py`, `norm.py` ... know how many blocks each needs; `block.py` and `dense.py` put them together to
the operations of `nn/functional/fused.py`. Nothing here waits for the device. Read `module.py` first.

Arrays are contiguous in the order N C H W. Machines without a GPU test the same files: the kernels are
compiled by a C++ compiler there, and their threads run one after another (`tests/kernels/cuda/`).
"""
