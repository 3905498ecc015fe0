"""A local page and an OpenAI-compatible API, in which every request has a steering of its own; see docs/serving.md."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
