"""Running a sweep: the driver, executors, work queues, searches and MLflow tracking.

``engine.run_sweep`` is the entry point; it makes a ``backlog``, and a ``driver`` runs it.
"""
