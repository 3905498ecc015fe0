"""The one room for statistics: intervals, tests and verdicts. Questions are what is sampled."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
