"""Debates: transcripts, tasks, personas, and agents that are scripts or behind a server. Knows nothing about models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
