"""`python -m probes.silent_agents`."""

from probes.start import main

if __name__ == "__main__":
    main("silent_agents")
