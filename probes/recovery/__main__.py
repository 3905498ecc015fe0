"""`python -m probes.recovery`."""

from probes.verb import main

if __name__ == "__main__":
    main("recovery")
