"""Quantized layers of other kinds than linears and 2-D convolutions; ``made`` says which takes the place of what."""
