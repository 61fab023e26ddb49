"""`python -m tools.coverage`; see `widen`."""

from tools.coverage.widen import main

if __name__ == "__main__":
    raise SystemExit(main())
