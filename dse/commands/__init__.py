"""Bodies of the command-line verbs: each prints, and calls the rooms that do the work."""
