"""Whether the Hugging Face hub can be reached, and where downloads are kept."""

from __future__ import annotations

import os
import urllib.request
from functools import cache
from pathlib import Path


@cache
def hub_reachable() -> bool:
    """Whether the hub answers within three seconds (its own client tries for thirty); checked once per process."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=3.0):
            return True
    except OSError:  # no name, no route, refused, timed out, or an error status
        return False


def cache_dir() -> Path:
    """Folder for converted models: `INTERP_CACHE`, or the platform's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("INTERP_CACHE") or user_cache_path("interp"))
