"""Alarms: every training is checked now and then against the exact products of its own operands."""
