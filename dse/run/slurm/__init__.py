"""Sweeps as jobs of Slurm: what is asked of it, and a Ray cluster over the nodes of one job."""
