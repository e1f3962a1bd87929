"""MLflow tracking: results of sweeps as experiments and runs, and a server for MLflow's page."""
