"""The functions behind the commands of the command line: each calls the packages that do the work, and prints."""
