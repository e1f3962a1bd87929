"""From a checked sweep file to its cells."""
