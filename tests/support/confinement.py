"""Take a process the right to write: without the powers of root, or with a read-only mount."""

import ctypes
import os
from pathlib import Path

WITHOUT_POWERS = "TESTS_WITHOUT_POWERS"
"""A variable in the environment of a program that must obey file permissions, even as root."""
READ_ONLY_MOUNT = "TESTS_READ_ONLY_MOUNT"
"""A variable that names a folder that the program must see as a read-only mount."""

# From <linux/capability.h>, <sched.h> and <sys/mount.h>.
_CAPABILITY_VERSION_3 = 0x20080522
_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 1 << 12, 1 << 14, 1 << 18


def confine(environment: dict[str, str]) -> None:
    """Confine this process as the variables in its environment say."""
    if folder := environment.get(READ_ONLY_MOUNT):
        _mount_read_only(folder)
    if environment.get(WITHOUT_POWERS):
        _drop_powers()


def forbid_writing(folder: Path) -> None:
    """Remove the permission to write from a folder and everything in it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def allow_writing(folder: Path) -> None:
    """Give the owner the permission to write again."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _drop_powers() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def _mount_read_only(folder: str) -> None:
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEW_MOUNTS | (_NEW_USERS if user else 0)))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    name = os.fsencode(folder)
    _check(_libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))
    _check(_libc.mount(name, name, None, _BIND, None))
    _check(_libc.mount(None, name, None, _REMOUNT | _BIND | _READ_ONLY, None))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


_libc = ctypes.CDLL(None, use_errno=True)
