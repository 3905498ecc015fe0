"""`python -m probes.silent_agents`."""

from probes.verb import main

if __name__ == "__main__":
    main("silent_agents")
