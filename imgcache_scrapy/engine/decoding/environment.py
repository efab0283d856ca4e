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
    return kept | {
        # The child must find the package where this process found it.
        "PYTHONPATH": os.pathsep.join(sys.path),
        # OpenBLAS is not used, but would reserve memory for every core.
        "OPENBLAS_NUM_THREADS": "1",
    }
