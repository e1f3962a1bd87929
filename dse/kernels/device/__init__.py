"""The device side, in Triton. Import it only where ``dse.kernels.available()``."""
