"""Kernels for the CPU, generated from a plan as LLVM code."""
