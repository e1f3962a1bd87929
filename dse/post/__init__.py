"""Post-training quantization of a model: statistics of its layers' inputs, and layers with quantized weights."""
