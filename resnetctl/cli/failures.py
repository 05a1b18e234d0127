"""Shows failures, and maps them to exit codes."""

import errno
import os
import sys

from resnetctl.cli import console
from resnetctl.container import owner_hint
from resnetctl.errors import EXIT_FAILURE, Interrupted, ResnetctlError, printable


def tell(error: BaseException) -> int:
    """Show `error` and return the exit code; bugs of ours with their traceback."""
    if isinstance(error, BrokenPipeError):  # the reader of stdout has closed it
        _discard_stdout()
        return EXIT_FAILURE
    known = _explained(error)
    if known is None:
        console.end_progress()
        sys.excepthook(type(error), error, error.__traceback__)
        return EXIT_FAILURE
    try:
        console.show_error(known)
        sys.stdout.flush()
    except OSError:  # stdout itself failed
        _discard_stdout()
    return known.exit_code


def is_bug(error: BaseException) -> bool:
    """Whether a user can do nothing about `error`."""
    return _explained(error) is None and not isinstance(error, BrokenPipeError)


def _explained(error: BaseException) -> ResnetctlError | None:
    """`error` as a message for the user; None for a bug of ours."""
    if isinstance(error, ResnetctlError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    return _os_error(error) if isinstance(error, OSError) else None


_OS_HINTS = {
    errno.ENOSPC: "free some space there, or choose another place with --data or --runs",
    errno.EDQUOT: "free some of your quota, or choose another place with --data or --runs",
    errno.EACCES: "change the permissions, or choose another place with --data or --runs",
    errno.EPERM: "change the permissions, or choose another place with --data or --runs",
    errno.EROFS: "that file system is read-only: choose another place with --data or --runs",
}


def _os_error(error: OSError) -> ResnetctlError | None:
    """An operating-system error with a hint; None if a user cannot change it."""
    if error.errno == errno.EBADF and error.filename is None:
        return ResnetctlError("stdout is closed", hint="send the result to a file, or to /dev/null")
    if error.errno not in _OS_HINTS:
        return None
    where = f"{printable(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
    return ResnetctlError(f"{where}{os.strerror(error.errno)}", hint=owner_hint(error) or _OS_HINTS[error.errno])


def _discard_stdout() -> None:
    """Discard output still buffered for a failed stdout, about which the interpreter would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
