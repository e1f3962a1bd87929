"""Techniques: one small frozen dataclass per file, one explicit registry per family.

Every technique carries its YAML name (the registry key), its mathematics, its operation count (``ops``) and its source.
"""
