"""The environment of the child programs that decode pictures."""

import os
import sys
from collections.abc import Mapping

# What Python and its libraries need. A hostile picture that takes over a child must find neither
# the token of the service nor the keys of its storage.
_KEPT = frozenset(
    {
        "DYLD_LIBRARY_PATH",
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "PATH",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
    }
)
# The C library would give the memory of each picture back to the system, and take it again for the
# next one, which takes 8 ms for a WebP of a megapixel. Other C libraries ignore these variables.
_MALLOC = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(16 << 20))
_KEPT_PREFIXES = ("LC_", "MALLOC_", "PYTHON")


def child_environment(own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables of a child program.

    Args:
        own: the variables of this process.
    """
    kept = {
        name: value
        for name, value in own.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    return (
        _MALLOC
        | kept
        | {
            # The child must find the package where this process found it.
            "PYTHONPATH": os.pathsep.join(sys.path),
            # OpenBLAS is not used, but would reserve memory for every core.
            "OPENBLAS_NUM_THREADS": "1",
        }
    )
