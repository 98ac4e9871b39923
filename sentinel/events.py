"""Event files: what is new in one, as samples.

The file grows while it is read, may end anywhere, may be damaged, replaced or gone; a reader of it must hold
that `offset` always lies between two records, so that a position saved after a read and taken up later gives
every sample once. TensorBoard's EventAccumulator rereads, samples and stops at damage, so this file exists.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DataType

from notifier.format import neutral
from rules.series import Sample
from sentinel.errors import TailError
from sentinel.records import (
    FOOTER_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    WRONG_DATA,
    Corrupt,
    Damage,
    Record,
    Truncated,
    crc32c_extend,
    masked,
    read_record,
    resynchronise,
    unwritten,
)
from sentinel.templates import Templates

_PIECE = 1 << 20  # bytes held at once; more does not read faster
_HEAD = 48  # bytes of the first record that tell a file from its successor: they hold its wall time
_BLOCK = 4096  # stdio writes whole blocks of this size, Python's buffered files two of them
_MAX_EVENT = 256 << 20  # longer records are not held in memory to look for scalars among them

_SMALL = 256  # bytes; a tensor of one number is shorter
_SCALAR_PLUGINS = ("scalars", "")

# Tag bytes of protobuf fields: number << 3 | wire type. Source:
# tensorboard/compat/proto/{event,summary}.proto.
_WALL_TIME, _STEP, _SUMMARY, _VALUE, _TENSOR = 0x09, 0x10, 0x2A, 0x0A, 0x42
# graph_def, log_message, tagged_run_metadata, meta_graph_def
_EVENTS_WITHOUT_SUMMARY = (0x22, 0x32, 0x42, 0x4A)
_VALUE_PREAMBLE = (0x0A, 0x3A, 0x4A)  # tag, node_name, metadata
_VALUES_WITHOUT_SCALAR = (0x22, 0x2A, 0x32)  # image, histo, audio

# dtype: (struct format of one value in tensor_content, field that holds it otherwise)
_NUMBERS = {
    DataType.DT_FLOAT: ("f", "float_val"),
    DataType.DT_DOUBLE: ("d", "double_val"),
    DataType.DT_HALF: ("e", "half_val"),
    DataType.DT_BFLOAT16: ("H", "half_val"),
    DataType.DT_INT8: ("b", "int_val"),
    DataType.DT_INT16: ("h", "int_val"),
    DataType.DT_INT32: ("i", "int_val"),
    DataType.DT_INT64: ("q", "int64_val"),
    DataType.DT_UINT8: ("B", "int_val"),
    DataType.DT_UINT16: ("H", "int_val"),
    DataType.DT_UINT32: ("I", "uint32_val"),
    DataType.DT_UINT64: ("Q", "uint64_val"),
    DataType.DT_BOOL: ("?", "bool_val"),
}


@dataclass(frozen=True, slots=True)
class SessionStart:
    """The writer said that it begins anew at `step`: what was logged at this step and later is void.

    Attributes:
        index: how many samples of the batch precede it.
        step: first step that is void.
        wall_time: seconds since the epoch.
    """

    index: int
    step: int
    wall_time: float


@dataclass(slots=True)
class Batch:
    """What one read found.

    Attributes:
        samples: in the order of the file; those of one record are never split over two batches.
        starts: session starts among them.
        damage: stretches that hold no readable record. One that reaches the end of what was read goes on in
            the next
            batch, as a further Damage that begins where this one ends.
        offset: where the next read begins, in bytes; always between two records.
        partial: the file ends within a record: the rest of it is awaited.
        replaced: the file is another one than before, or was cut; this batch begins at its byte 0.
        more: the limit ended this read, not the file.
    """

    samples: list[Sample] = field(default_factory=list)
    starts: list[SessionStart] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    offset: int = 0
    partial: bool = False
    replaced: bool = False
    more: bool = False


class EventFile:
    """One event file and a position in it. Holds no descriptor between reads; an idle file costs one `stat`.

    Attributes:
        path: the file.
        offset: where the next read begins, in bytes.
        inode: number of the file last read; None before the first read unless it was given.
    """

    def __init__(self, path: Path, offset: int = 0, inode: int | None = None) -> None:
        """Take up a file at a position that an earlier read returned.

        Args:
            path: the file; it need not exist yet.
            offset: a record boundary, in bytes.
            inode: number of the file that the offset belongs to; a file with another number is read from its
                start.
        """
        self.path = path
        self.offset = offset
        self.inode = inode
        self._templates = Templates(_parse)
        self._seen: tuple[int, int, int] | None = None
        self._partial = False
        self._head = b""
        self._growths = 0
        self._in_blocks = 0

    @property
    def buffered(self) -> bool:
        """Whether the writer seems to hold points back: the file grows by blocks that end within a record.

        Points then arrive late and in bursts; the cure is a `flush()` in the training loop. Two growths tell.
        """
        return self._in_blocks >= 2 and 2 * self._in_blocks >= self._growths

    def back_to(self, offset: int) -> None:
        """Give back what was read beyond `offset`, a record boundary; the next read begins there."""
        self.offset, self._seen = offset, None

    def read(self, limit_bytes: int = 4 << 20) -> Batch:
        """Read what is new, up to `limit_bytes` (one record is read whole however long it is).

        Returns:
            What was found; empty when nothing is new.

        Raises:
            TailError: the file is gone, not readable or not a file. The position stays; a later read may
                succeed.
        """
        try:
            found = self.path.stat()
            if self._seen == (found.st_ino, found.st_size, found.st_mtime_ns):
                return Batch(offset=self.offset, partial=self._partial)
            # A FIFO by this name must not block the sentinel for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return self._read(descriptor, limit_bytes)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise TailError(
                self.path, f"the event file is gone; it was read up to byte {self.offset}", vanished=True
            ) from error
        except OSError as error:
            raise TailError(self.path, _reading_failed(error)) from error

    def _read(self, descriptor: int, limit: int) -> Batch:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TailError(self.path, "not a regular file; not read. Move it out of the log directory")
        head = os.pread(descriptor, _HEAD, 0)
        batch = Batch()
        batch.replaced = (
            (self.inode is not None and found.st_ino != self.inode)
            or found.st_size < self.offset
            or not head.startswith(self._head)
        )
        if batch.replaced:
            self.offset, self._growths, self._in_blocks = 0, 0, 0
        batch.offset = self.offset
        self._take(descriptor, found.st_size, limit, batch)
        self.inode, self.offset, self._partial = found.st_ino, batch.offset, batch.partial
        self._head = head[: self.offset]
        self._seen = None if batch.more else (found.st_ino, found.st_size, found.st_mtime_ns)
        if not batch.more:
            self._growths += 1
            self._in_blocks += batch.partial and found.st_size % _BLOCK == 0
        return batch

    def _take(self, descriptor: int, size: int, limit: int, batch: Batch) -> None:
        """Read piece after piece into the batch, until the file or the limit ends."""
        begin = batch.offset
        while (base := batch.offset) < size:
            room = begin + limit - base
            if base == begin:
                room = max(room, FRAME_BYTES)
            if room <= 0:
                batch.more = True
                return
            piece = os.pread(descriptor, min(_PIECE, room, size - base), base)
            at_end = base + len(piece) >= size or not piece
            length = self._parse(piece, base, batch, at_end=at_end)
            if at_end:
                return
            if length is not None and base + length > size:
                batch.partial = True
                return
            if batch.offset > base:
                continue
            if length is None or (length > room and base > begin):
                batch.more = True
                return
            self._take_long(descriptor, piece, length, batch)
            if batch.offset == base:  # cut while it was read: the next read sees the new size
                batch.partial = True
                return

    def _parse(self, piece: bytes, base: int, batch: Batch, *, at_end: bool) -> int | None:
        """Add a piece's records to the batch; return the length of the one it ends within, where known."""
        position = 0
        wanted: int | None = None
        while True:
            position = self._templates.take(piece, position, batch.samples)
            if position == len(piece):
                break
            match read_record(piece, position):
                case Record(start, stop, end):
                    self._add(piece[position:start], piece[start:stop], base + position, batch)
                    position = end
                case Truncated(length):
                    wanted = length
                    batch.partial = at_end
                    break
                case Corrupt(reason) as corrupt:
                    if at_end and unwritten(piece, corrupt):
                        batch.partial = True
                        break
                    found, is_header = resynchronise(piece, position + 1)
                    _lose(batch, base + position, found - position, reason)
                    position = found
                    if not is_header:
                        batch.partial = at_end and position < len(piece)
                        break
        batch.offset = base + position
        return wanted

    def _take_long(self, descriptor: int, piece: bytes, length: int, batch: Batch) -> None:
        """Take a record that is longer than `piece`, which holds its beginning and a valid header."""
        base, size = batch.offset, length - FRAME_BYTES
        if not _silent_prefix(piece[HEADER_BYTES : HEADER_BYTES + size], size):
            if size > _MAX_EVENT:
                _lose(
                    batch,
                    base,
                    length,
                    f"an event of {size} bytes, longer than the {_MAX_EVENT} that are read",
                )
                batch.offset = base + length
                return
            self._parse(os.pread(descriptor, length, base), base, batch, at_end=False)
            return
        crc, at, stop = 0, base + HEADER_BYTES, base + HEADER_BYTES + size
        while at < stop and (part := os.pread(descriptor, min(_PIECE, stop - at), at)):
            crc, at = crc32c_extend(crc, part), at + len(part)
        if os.pread(descriptor, FOOTER_BYTES, stop) == masked(crc).to_bytes(FOOTER_BYTES, "little"):
            batch.offset = base + length
        elif at == stop:
            found, _ = resynchronise(piece, 1)
            _lose(batch, base, found, WRONG_DATA)
            batch.offset = base + found

    def _add(self, header: bytes, data: bytes, offset: int, batch: Batch) -> None:
        """Parse one event by protobuf, add what it holds, and learn from it."""
        if len(data) > _SMALL and (prefix := _silent_prefix(data, len(data))):
            self._templates.learn_silent(header, data, prefix)
            return
        try:
            event = Event.FromString(data)
        except DecodeError:
            _lose(
                batch, offset, len(data) + FRAME_BYTES, "a record with right checksums that is not an event"
            )
            return
        samples = _scalars(event)
        batch.samples += samples
        if len(samples) == 1:
            self._templates.learn(header, data, samples[0])
        if event.session_log.status == SessionLog.START:
            batch.starts.append(SessionStart(len(batch.samples), event.step, event.wall_time))


def _lose(batch: Batch, offset: int, length: int, reason: str) -> None:
    """Note lost bytes, joined to the stretch before them where they follow it."""
    last = batch.damage[-1] if batch.damage else None
    if last is not None and last.offset + last.length == offset:
        batch.damage[-1] = Damage(last.offset, last.length + length, last.reason, last.at)
    else:
        batch.damage.append(Damage(offset, length, reason, len(batch.samples)))


def _parse(data: bytes) -> list[Sample]:
    """Return every scalar of an event's bytes; none where they are no event."""
    try:
        return _scalars(Event.FromString(data))
    except DecodeError:
        return []


def _scalars(event: Event) -> list[Sample]:
    """Return every scalar of an event, simple values and tensors of one number alike, in its order."""
    samples: list[Sample] = []
    for value in event.summary.value:
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            samples.append((_name(value.tag), event.step, event.wall_time, value.simple_value))
        elif kind == "tensor" and value.metadata.plugin_data.plugin_name in _SCALAR_PLUGINS:
            number = _number(value.tensor)
            if number is not None:
                samples.append((_name(value.tag), event.step, event.wall_time, number))
    return samples


def _name(tag: str) -> str:
    """Return a tag as text that acts on no terminal and forges no line, wherever it is printed later."""
    return tag if tag.isprintable() else neutral(tag)


def _number(tensor: TensorProto) -> float | None:
    """Return the number that a tensor of one element holds, None for every other tensor.

    Source of the empty case: tensorflow/core/framework/tensor.cc, FromProtoField: absent values are zeros.
    """
    if tensor.dtype not in _NUMBERS or tensor.tensor_shape.unknown_rank:
        return None
    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    form, name = _NUMBERS[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != struct.calcsize(f"<{form}"):
            return None
        number = struct.unpack(f"<{form}", tensor.tensor_content)[0]
    else:
        number = next(iter(getattr(tensor, name)), 0)
        if name == "half_val":  # bit patterns
            number = struct.unpack(f"<{form}", struct.pack("<H", number & 0xFFFF))[0]
    if tensor.dtype == DataType.DT_BFLOAT16:  # the upper half of a float32
        number = struct.unpack("<f", struct.pack("<I", number << 16))[0]
    return float(number)


def _silent_prefix(data: bytes, size: int) -> int:
    """Return how many of its first bytes show that an event of `size` bytes holds no scalar; 0: they do not.

    They do for a graph, for run metadata, and for a summary of exactly one value that is an image, a
    histogram, audio or a long tensor: then every length given on the way reaches to the end of the event.
    """
    try:
        position = 9
        if data[0] != _WALL_TIME:
            return 0
        if data[position] == _STEP:
            _, position = _varint(data, position + 1)
        kind = data[position]
        length, position = _varint(data, position + 1)
        if position + length != size:
            return 0
        if kind in _EVENTS_WITHOUT_SUMMARY:
            return position
        if kind != _SUMMARY or data[position] != _VALUE:
            return 0
        length, position = _varint(data, position + 1)
        if position + length != size:
            return 0
        while data[position] in _VALUE_PREAMBLE:
            length, position = _varint(data, position + 1)
            position += length
        kind = data[position]
        length, position = _varint(data, position + 1)
    except IndexError:
        return 0
    return position if kind in _VALUES_WITHOUT_SCALAR or (kind == _TENSOR and length > _SMALL) else 0


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a protobuf varint and the position behind it."""
    number = shift = 0
    while (byte := data[position]) >= 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return number | byte << shift, position + 1


def _reading_failed(error: OSError) -> str:
    """Say what an I/O error means for the reading of this file."""
    what = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot be read ({what}); its samples are missing. Give the sentinel's user read permission"
    return f"cannot be read ({what}); its samples are missing until it can. It is tried again at every read"
