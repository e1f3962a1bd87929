"""Benchmarks. Each measurement stands beside its floor and beside other programs measured in the same run.

The measuring modules import torch and the mathematics only, so they run on a bare GPU machine.
"""
