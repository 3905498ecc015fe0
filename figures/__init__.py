"""Figures of what runs left behind, one a file: each reads a run's results and writes the figure."""
