"""Loops over elements that Numba compiles for the CPU: what plain torch does in twenty passes, in one.

Every addition, multiplication, division and comparison is one of IEEE 754: nothing is contracted or reordered
(``fastmath`` is off), so the results have the bits of the plain-torch functions, on every processor.
``dse.kernels.cpu_loops`` decides when they are loaded.
"""
