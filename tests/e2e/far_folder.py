"""A folder of another machine: a real file system in which nobody announces what the others write.

    python -m tests.e2e.far_folder SERVER MOUNT [--cache SECONDS] [--stale FILE]

What is below SERVER is shown at MOUNT through the kernel's FUSE, by its bare protocol, as a network file
system would: changes made in SERVER itself make no inotify event at MOUNT, attributes are cached for a while,
times are whole seconds, and who reads a file that has been replaced gets ESTALE. While FILE exists, reading
any file whose name stands in it is ESTALE too. Root only.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_LARGEST = 1 << 17
_INVALIDATE, _BIG = 1 << 12, 1 << 5  # FUSE_AUTO_INVAL_DATA, FUSE_BIG_WRITES


class FarFolder:
    """Serves one mount, a request at a time; it keeps no file open between two of them, as NFS servers."""

    def __init__(self, server: Path, device: int, cache: float, stale: Path | None) -> None:
        self._server = server
        self._device = device
        self._cache = cache
        self._stale = stale
        self._nodes: dict[int, tuple[str, int]] = {1: ("", server.stat().st_ino)}
        self._known: dict[tuple[str, int], int] = {}
        self._next = 2
        self._calls: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: lambda node, _body: self._attributes(node),
            4: self._change,
            9: self._make_folder,
            10: lambda node, body: self._remove(node, body, os.unlink),
            11: lambda node, body: self._remove(node, body, os.rmdir),
            12: lambda node, body: self._rename(node, body, 8),
            14: lambda node, _body: self._open(node),
            15: self._read,
            16: self._write,
            17: lambda _node, _body: struct.pack("<5Q4I6I", *[1 << 20] * 5, 512, 255, 512, 0, *[0] * 6),
            18: lambda _node, _body: b"",
            20: lambda _node, _body: b"",
            25: lambda _node, _body: b"",
            26: self._begin,
            27: lambda node, _body: self._open(node),
            28: self._list,
            29: lambda _node, _body: b"",
            30: lambda _node, _body: b"",
            35: self._create,
            45: lambda node, body: self._rename(node, body, 16),
        }

    def serve(self) -> None:
        """Answer until it is unmounted."""
        while True:
            try:
                request = os.read(self._device, _LARGEST + 4096)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue
                return  # ENODEV: unmounted
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET: nobody waits
                continue
            call = self._calls.get(code)
            try:
                answer, failed = (call(node, request[_IN.size :]), 0) if call else (b"", errno.ENOSYS)
            except OSError as error:
                answer, failed = b"", error.errno or errno.EIO
            os.write(self._device, _OUT.pack(_OUT.size + len(answer), -failed, unique) + answer)

    def _begin(self, _node: int, body: bytes) -> bytes:
        flags = struct.unpack_from("<IIII", body)[3] & (_INVALIDATE | _BIG)
        whole_seconds = 1_000_000_000
        return struct.pack(
            "<IIIIHHIIHHI7I", 7, 31, _LARGEST, flags, 8, 8, _LARGEST, whole_seconds, 0, 0, 0, *[0] * 7
        )

    def _path(self, node: int, name: bytes = b"") -> str:
        """The path of a node, or of a name in it; a file that is another one by now is a stale handle."""
        known, inode = self._nodes[node]
        path = f"{self._server}/{known}" if known else str(self._server)
        try:
            if os.lstat(path).st_ino != inode:
                raise OSError(errno.ESTALE, "replaced")
        except FileNotFoundError as error:
            raise OSError(errno.ESTALE, "removed") from error
        return f"{path}/{os.fsdecode(name.rstrip(bytes(1)))}" if name else path

    def _attr(self, found: os.stat_result) -> bytes:
        times = [int(when) for when in (found.st_atime, found.st_mtime, found.st_ctime)]
        owner = (found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0)
        return _ATTR.pack(
            found.st_ino, found.st_size, found.st_blocks, *times, 0, 0, 0, found.st_mode, *owner
        )

    def _entry(self, path: str) -> bytes:
        found = os.lstat(path)
        key = (os.path.relpath(path, self._server), found.st_ino)
        node = self._known.setdefault(key, self._next)
        self._next += 1
        self._nodes[node] = key
        whole, rest = divmod(int(self._cache * 1e9), 10**9)
        return struct.pack("<4Q2I", node, 0, whole, whole, rest, rest) + self._attr(found)

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._path(node, body))

    def _attributes(self, node: int) -> bytes:
        whole, rest = divmod(int(self._cache * 1e9), 10**9)
        return struct.pack("<QII", whole, rest, 0) + self._attr(os.lstat(self._path(node)))

    def _change(self, node: int, body: bytes) -> bytes:
        path = self._path(node)
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        mode = struct.unpack_from("<I", body, 68)[0]
        if valid & 1:
            Path(path).chmod(stat.S_IMODE(mode))
        if valid & 8:
            os.truncate(path, size)
        return self._attributes(node)

    def _make_folder(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body[8:])
        Path(path).mkdir()
        Path(path).chmod(stat.S_IMODE(struct.unpack_from("<I", body)[0]))
        return self._entry(path)

    def _remove(self, node: int, body: bytes, how: Callable[[str], None]) -> bytes:
        how(self._path(node, body))
        return b""

    def _rename(self, node: int, body: bytes, begin: int) -> bytes:
        old, new = body[begin:].split(b"\0")[:2]
        target = self._path(struct.unpack_from("<Q", body)[0], new)
        source = self._path(node, old)
        inode = os.lstat(source).st_ino
        Path(source).rename(target)
        before, after = (os.path.relpath(path, self._server) for path in (source, target))
        moved = self._known.pop((before, inode), None)
        if moved is not None:
            self._known[after, inode] = moved
            self._nodes[moved] = (after, inode)
        return b""

    def _open(self, node: int) -> bytes:
        self._path(node)
        return struct.pack("<QII", 0, 0, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        path = self._path(node)
        _, offset, size = struct.unpack_from("<QQI", body)
        if self._stale is not None and self._stale.exists() and Path(path).name in self._stale.read_text():
            raise OSError(errno.ESTALE, "as was asked")
        with Path(path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        descriptor = os.open(self._path(node), os.O_WRONLY)
        try:
            done = os.pwrite(descriptor, body[40 : 40 + size], offset)
        finally:
            os.close(descriptor)
        return struct.pack("<II", done, 0)

    def _create(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        path = self._path(node, body[16:])
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | (flags & os.O_EXCL), stat.S_IMODE(mode)))
        return self._entry(path) + struct.pack("<QII", 0, 0, 0)

    def _list(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        listed = b""
        with os.scandir(self._path(node)) as entries:
            names = sorted((entry.name, entry.inode(), entry.is_dir()) for entry in entries)
        for number, (name, inode, folder) in enumerate(names[offset:], offset + 1):
            text = os.fsencode(name)
            kind = (stat.S_IFDIR if folder else stat.S_IFREG) >> 12
            entry = struct.pack("<QQII", inode, number, len(text), kind) + text
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed


def main() -> None:
    """Mount and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", type=Path)
    parser.add_argument("mount", type=Path)
    parser.add_argument("--cache", type=float, default=3.0)
    parser.add_argument("--stale", type=Path)
    options = parser.parse_args()
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    # Called sshfs, which it is like: by that name it is known for a network file system.
    if libc.mount(b"far:/runs", os.fsencode(options.mount), b"fuse.sshfs", 0, data.encode()) != 0:
        raise SystemExit(os.strerror(ctypes.get_errno()))
    FarFolder(options.server, device, options.cache, options.stale).serve()


if __name__ == "__main__":
    main()
