"""Running trials: the training loop, executors, the store of results, and its projection into MLflow."""
