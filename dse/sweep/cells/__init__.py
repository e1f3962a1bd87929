"""Expansion of a checked sweep file to its cells."""
