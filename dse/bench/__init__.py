"""Measurements of speed, each against its floor and its peers in the same run.

The measuring modules import torch and the mathematics only, so they run on a bare GPU machine.
"""
