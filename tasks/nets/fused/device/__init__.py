"""The Triton kernels; imported on first use, because Triton need not be installed."""
