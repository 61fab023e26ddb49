"""`python -m tools.benchmark`; see `measure`."""

from tools.benchmark.measure import main

if __name__ == "__main__":
    main()
