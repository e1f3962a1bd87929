"""The mathematics of quantized products: formats, block quantizers, the three GEMMs of a linear, recipes."""
