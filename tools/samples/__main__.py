"""`python -m tools.samples`; see `make_models`."""

from tools.samples.make_models import main

if __name__ == "__main__":
    main()
