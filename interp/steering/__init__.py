"""What is added to the residual stream, or taken out of it, and at which tokens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
