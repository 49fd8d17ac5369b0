"""Memory of a worker's process, which generates images between one training and the next."""

from __future__ import annotations

import ctypes
import gc


def return_freed_memory() -> None:
    """Return to the system what the C library keeps of freed memory.

    A decoder has the library keep it (`datagen.model.decoding.keep_freed_memory`), which is right
    for tiles of a few megabytes, and not for what a training has used. Where the library has no
    `malloc_trim`, as outside glibc, this only collects garbage.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
