"""Whether a checkpoint that somebody else wrote is whole, told from its bytes: zip, torch, safetensors, HF
folder.

Nothing is unpickled, executed or unpacked, torch is not imported, and reading is bounded: a checkpoint is
untrusted input. A zip's contents carry checksums, so any flipped bit in them is found; safetensors carries
none, so there the header and the lengths are checked, and a bit that flips in a weight is not seen.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
LARGEST_HEADER = 100_000_000
"""Bytes; the reference implementation of safetensors refuses longer headers."""

MOST_MEMBERS = 200_000
"""Entries of a zip; more are an attack, not a checkpoint."""

MOST_BYTES = 64 << 30
"""Bytes unpacked from one zip at the most."""

MOST_RATIO = 20
"""Unpacked bytes for each byte of the zip, where they are more than a gigabyte: weights hardly shrink."""

LARGEST_RECORD = 256 << 20
"""Bytes of trainer_state.json or of an index, which are read whole."""

STATE = "trainer_state.json"

_INDEX = ".index.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8}
_BITS |= {"U64": 64, "U32": 32, "U16": 16, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}


def fault_of(path: Path, step: int) -> str:
    """Say what keeps a checkpoint from being trusted; empty where nothing does.

    Args:
        path: a file, or a folder as Hugging Face's Trainer writes it.
        step: what its name says; a folder's own record must agree.
    """
    try:
        return _folder(path, step) if path.is_dir() else _file(path)
    except OSError as error:
        return f"{path.name}: {error.strerror or error}"


def _file(path: Path) -> str:
    if not path.is_file():
        return f"{path.name} is no file"  # a FIFO by this name must not block us
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{"):
        return _safetensors(path)
    if head.startswith(b"\x80"):
        return f"{path.name} is a bare pickle, which cannot be checked without running it"
    return f"{path.name} is neither zip, torch nor safetensors" if head else f"{path.name} is empty"


def _zip(path: Path) -> str:
    """Check every member's checksum, and what `torch.save` always writes where it was torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = path.stat().st_size
            unpacked = sum(member.file_size for member in members)
            if not members:
                return f"{path.name}: the zip is empty"
            if len(members) > MOST_MEMBERS or unpacked > min(MOST_BYTES, max(1 << 30, MOST_RATIO * size)):
                return f"{path.name}: {len(members)} members of {unpacked} bytes are more than is unpacked"
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    return f"{path.name}: {member.filename} is packed in a way that no checkpoint is"
                with archive.open(member) as content:
                    while content.read(CHUNK):
                        pass
            return _torch(path.name, [member.filename for member in members])
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        return f"{path.name}: {error or 'it ends too early'}"
    except (NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        return f"{path.name}: the zip cannot be read: {error}"


def _torch(name: str, members: Sequence[str]) -> str:
    """A file that says by its name or its members to be of `torch.save` must hold a pickle and a version."""
    parts = {member.partition("/")[2] for member in members if "/" in member}
    claims = "data.pkl" in parts or any(part.startswith("data/") for part in parts)
    lacking = [part for part in ("data.pkl", "version") if part not in parts]
    return f"{name}: of a torch file {lacking[0]} is missing" if claims and lacking else ""


def _safetensors(path: Path) -> str:
    """Check the header, and that the tensors lie in the file without gap or overlap, to its last byte."""
    size = path.stat().st_size
    with path.open("rb") as file:
        stated = file.read(8)
        length = struct.unpack("<Q", stated)[0] if len(stated) == 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            return f"{path.name}: its header does not fit into the file"
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return f"{path.name}: its header is not readable"
    if not isinstance(header, dict):
        return f"{path.name}: its header is no table"
    header.pop("__metadata__", None)
    spans = []
    for tensor in header.values():
        span = _span(tensor)
        if span is None:
            return f"{path.name}: a tensor's type, shape and place do not agree"
        spans.append(span)
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            return f"{path.name}: its tensors leave a gap or overlap"
        at = end
    held = size - 8 - length
    if at != held:
        return f"{path.name} holds {held} of {at} bytes of tensors"
    return "" if spans else f"{path.name} holds no tensor"


def _span(tensor: Any) -> tuple[int, int] | None:
    """Where a tensor lies, if that agrees with its type and shape."""
    if not isinstance(tensor, dict):
        return None
    shape, offsets, kind = tensor.get("shape"), tensor.get("data_offsets"), tensor.get("dtype")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return None
    if not all(type(number) is int and number >= 0 for number in [*shape, *offsets]):
        return None
    begin, end = offsets
    count = 1
    for number in shape:
        count *= number
    bits = _BITS.get(kind) if isinstance(kind, str) else None
    if end < begin or (bits is not None and (end - begin) * 8 != count * bits):
        return None
    return begin, end


def _folder(path: Path, step: int) -> str:
    """Check a folder of Hugging Face's Trainer: its state, and all weights that it holds or names."""
    try:
        state = _json(path / STATE)
    except FileNotFoundError:
        return f"no {STATE}"
    except (ValueError, RecursionError):
        return f"{STATE} is not readable"
    said = state.get("global_step") if isinstance(state, dict) else None
    if said != step:
        return f"{STATE} says step {said!r}, its name {step}"
    weights = sorted(p for p in path.iterdir() if p.suffix in _WEIGHTS)
    wanted: set[str] = set()
    for index in path.glob(f"*{_INDEX}"):
        try:
            named = _json(index)["weight_map"].values()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f"{index.name} is not readable"
        wanted.update(str(name) for name in named)
    missing = sorted(wanted - {p.name for p in weights})
    if missing:
        return f"{missing[0]} is missing, which the index names"
    if not any("model" in p.name for p in weights):
        return "no model in it (*.safetensors or *.bin)"
    return next((fault for fault in map(_file, weights) if fault), "")


def _json(path: Path) -> Any:
    if not path.is_file() and path.exists():
        raise ValueError("no file")
    with path.open("rb") as file:
        content = file.read(LARGEST_RECORD + 1)
    if len(content) > LARGEST_RECORD:
        raise ValueError("too long")
    return json.loads(content)
