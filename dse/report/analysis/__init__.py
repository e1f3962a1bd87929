"""Tables and statistics that reports show, computed from records."""
