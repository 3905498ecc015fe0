"""Other libraries kept quiet. Knows what they print; knows nothing about what is said instead."""

from __future__ import annotations

import warnings


def quiet_libraries() -> None:
    """Loading bars and warnings of other libraries would hide a command's own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")
