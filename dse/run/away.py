"""The former name of ``dse.run.offline``: ``python -m dse.run.away`` runs it."""

from dse.run.offline import main

if __name__ == "__main__":
    raise SystemExit(main())
