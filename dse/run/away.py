"""``python -m dse.run.away``: the former name of ``dse.run.offline``."""

from dse.run.offline import main

if __name__ == "__main__":
    raise SystemExit(main())
