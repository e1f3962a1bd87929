"""The results folder: records of trials, the files that hold them, and which sweep asked for which."""
