"""Folders in places where every user of the machine may make one."""

import contextlib
import os
import stat
from pathlib import Path


def own_folder(path: Path) -> Path:
    """Return a folder that is ours alone, made if need be.

    Raises:
        PermissionError: it is another user's, who could have made it first, or no folder.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        msg = f"not a folder of this user: {path}; remove it, or set YOLO_CONFIG_DIR to another"
        raise PermissionError(msg)
    path.chmod(0o700)
    return path
