"""Words and values of the sweep language, and YAML with line numbers."""
