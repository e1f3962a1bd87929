"""MLflow: results of sweeps as experiments and runs."""
