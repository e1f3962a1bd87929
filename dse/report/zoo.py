"""``python -m dse.report.zoo``: the former name of ``dse.report.task_table``."""

from dse.report.task_table import main

if __name__ == "__main__":
    raise SystemExit(main())
