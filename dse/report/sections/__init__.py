"""Contents of the report's sections: the rows of its tables and lists, as text."""
