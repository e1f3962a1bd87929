"""Where the tasks' data comes from, and how the files are read."""
