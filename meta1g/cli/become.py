"""Writing into a daemon's folder as that daemon would: what root made there it could not use any more."""
import os


def become_owner_of(folder: str) -> None:
    """Be the owner of this folder from now on, if this is root and the folder is not root's. OSError."""
    owner = os.stat(folder)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
