"""Reading sweep files: included files, shorthands, and the structure of what is written."""
