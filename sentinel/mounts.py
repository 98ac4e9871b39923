"""What kind of file system a path lies on, and what may be expected of it."""

from __future__ import annotations

from pathlib import Path

from sentinel.process import PROC

NETWORK = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "lustre",
            "gpfs",
            "beegfs",
            "ceph",
            "glusterfs",
            "9p",
            "afs",
        ),
        *("ocfs2", "gfs2", "panfs", "pvfs2", "orangefs", "virtiofs", "vboxsf"),
        *(f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "s3fs", "gcsfuse", "rclone", "juicefs")),
    }
)
"""File systems whose changes by other machines are not announced to this one."""

KEEPS_TIMES = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "tmpfs", "ramfs", "overlay"}
)
"""File systems of this machine alone that date a folder anew whenever something in it appears, goes or is
renamed. Others may answer from a cache or keep no such time (object stores): they are never relied on for it.
"""


def mounted(path: Path) -> str:
    """Name the type of the file system that a path lies on, "" where it cannot be said."""
    return file_system(path.resolve(), mounts())


def file_system(path: Path, mounts: str) -> str:
    """Name the type of the file system that a path lies on; `mounts` as /proc/self/mountinfo has it."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields, _, after = line.partition(" - ")
        parts = fields.split()
        if len(parts) < 5 or not after:
            continue
        point = parts[4].encode("ascii", "replace").decode("unicode_escape") if "\\" in parts[4] else parts[4]
        if path.is_relative_to(point) and len(Path(point).parts) >= best:  # the later of two mounts covers it
            best, kind = len(Path(point).parts), after.split()[0]
    return kind


def mounts() -> str:
    """Return what is mounted, as the kernel writes it; nothing where it does not say."""
    try:
        return (PROC / "self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
