"""What happens inside a model into which a multi-agent debate was distilled."""

import os

import lazy_loader

__version__ = "0.1.0"

# In bf16 on a CPU, oneDNN keeps a compiled kernel of some MB for each shape that it meets, 1,024 of them unless told
# otherwise, and texts come in all lengths. It reads this when it is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
