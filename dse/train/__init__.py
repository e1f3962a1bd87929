"""Training of one pack in one process: the loop, its state, checkpoints, and how wide a pack may be."""
