"""The version of this package, and the folder from which Python imports it."""

from pathlib import Path

__version__ = "0.1.0"
IMPORT_ROOT = Path(__file__).resolve().parents[1]
"""What another process needs on its path to import the same package."""
