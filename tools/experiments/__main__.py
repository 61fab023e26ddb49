"""`python -m tools.experiments`; see `reproduce`."""

from tools.experiments.reproduce import main

if __name__ == "__main__":
    raise SystemExit(main())
