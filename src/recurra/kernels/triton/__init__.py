"""Kernels for GPUs, as Triton code from the same plans as the CPU's."""
