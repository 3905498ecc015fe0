"""Internalizing debates in two stages, and the table that compares the result with the base."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
