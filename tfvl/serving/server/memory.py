"""Returns the memory of an unloaded version to the system."""

import ctypes
import gc


def release() -> None:
    """Frees what nothing refers to any more, and returns freed memory to the system.

    The C library keeps freed memory for later, in a heap for each thread of TensorFlow: 140 MB after `shapes-vilt` was
    loaded and unloaded. glibc gives it back when asked; other C libraries are left as they are.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
