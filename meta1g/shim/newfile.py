"""A file that is made from nothing, never somebody else's under the same name."""
import os
from typing import BinaryIO


def create(path: str) -> BinaryIO:
    """The new file at `path`, for its owner only; OSError if there is one or a link.

    Root may write into somebody else's folder: a file opened by its name later might be another.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return os.fdopen(fd, "wb")
