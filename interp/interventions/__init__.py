"""Steering on trial: sweeps over coefficients, and the suppression of a trait."""
