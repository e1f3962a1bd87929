"""What is put into a model: quantized layers, the choice of layers, and ``quantize_``."""
