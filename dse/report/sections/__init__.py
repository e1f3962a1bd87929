"""Rows of a report's sections: what its tables and lists say."""
