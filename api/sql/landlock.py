"""Landlock: irrevocably restrict this process to reading the given files. Linux enforces it, also for root.

Rules and constants follow the kernel's userspace API documentation (landlock.rst).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # identical on all architectures
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVS: Final = 38
_READ_FILE: Final = 1 << 2
# Number of access-right bits by ABI version (files), and of the TCP and scope rights.
_FILE_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_BITS: Final = 2
_SCOPE_BITS: Final = 2


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def landlock_version() -> int:
    """Return the ABI version; 0 if the kernel has no Landlock."""
    return max(0, int(_syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))))


def allow_reading_only(paths: Sequence[str]) -> bool:
    """Restrict this thread to reading these files and the files below these folders.

    The restriction also applies to all threads that it starts from now on. TCP is blocked if the kernel supports that.

    Returns:
        False, without any effect, if the kernel has no Landlock.

    Raises:
        OSError: a Landlock system call failed.
    """
    version = landlock_version()
    if version == 0:
        return False
    rules = _Ruleset(
        files=(1 << _FILE_BITS[min(version, 5)]) - 1,
        tcp=(1 << _TCP_BITS) - 1 if version >= 4 else 0,
        scopes=(1 << _SCOPE_BITS) - 1 if version >= 6 else 0,
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(_syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for path in paths:
            _allow(ruleset, path)
        libc = ctypes.CDLL(None, use_errno=True)
        _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: str) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathRule(_READ_FILE, descriptor)
        _checked(
            _syscall(
                _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
            )
        )
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: object) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    return int(syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
