"""Data sets of the tasks: finding or downloading their files, and reading them."""
