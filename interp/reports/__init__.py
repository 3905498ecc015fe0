"""What a reader sees: tables in the terminal, pages, figures and sentences."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
