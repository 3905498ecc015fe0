"""Experiments with steering: answers side by side, sweeps, and the suppression of a trait."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
