"""`python -m probes.stepwise`."""

from probes.verb import main

if __name__ == "__main__":
    main("stepwise")
