"""Writes a film: GIF with Pillow, MP4 with imageio-ffmpeg where it is installed.

The one fact to hold: a film appears under its name when it is whole, so one that was interrupted leaves the
last one in place. Pictures are written as they come, never all held at once.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Picture = NDArray[np.uint8]
"""uint8 [height, width, 3]."""
Colour = tuple[int, int, int]

COLOURS = 128
"""Of a GIF: more than this is not seen, and makes it larger."""


class FilmError(ValueError):
    """The film cannot be written as asked; the message says what to do."""


def check(path: Path) -> None:
    """See that a film of that name can be written, before anything is driven.

    Raises:
        FilmError: of another kind than .gif and .mp4, without what it needs, or into no folder.
    """
    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise FilmError(f"{path}: a film's name ends in .gif or .mp4")
    if kind == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise FilmError(
            f"{path}: MP4 needs imageio-ffmpeg: pip install 'training-sentinel[video]', or name a .gif"
        )
    if not path.absolute().parent.is_dir():
        raise FilmError(f"{path}: there is no folder {path.absolute().parent}; make it first")


def write(
    path: Path,
    pictures: Iterable[Picture],
    *,
    size: tuple[int, int],
    rate: int,
    expected: int | None,
    colours: Sequence[Colour] = (),
) -> int:
    """Write a film, with a progress bar where a person looks on, and return how many pictures it has.

    Args:
        path: its name; what is there is replaced when the film is whole. pictures: one after another.
        size: their width and height, pixels. rate: pictures a second. expected: how many there will be.
        colours: those that must not be lost where there are only few.

    Raises:
        FilmError: as `check`. OSError: the file cannot be written.
    """
    check(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    counted = _Counted(pictures)
    try:
        with _bar() as bar:
            shown = bar.track(counted, total=expected, description=path.name)
            if path.suffix.lower() == ".gif":
                _write_gif(part, iter(shown), rate, colours)
            else:
                _write_mp4(part, iter(shown), size, rate)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return counted.count


class _Counted:
    """Pictures, counted as they are taken."""

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self._pictures = pictures
        self.count = 0

    def __iter__(self) -> Iterator[Picture]:
        for picture in self._pictures:
            self.count += 1
            yield picture


def _bar() -> Progress:
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _write_gif(path: Path, pictures: Iterator[Picture], rate: int, colours: Sequence[Colour]) -> None:
    """One palette for all, by the first picture: colours that jump are worse than wrong ones."""
    first = Image.fromarray(next(pictures))
    rest = COLOURS - len(colours)
    found = first.quantize(rest, method=Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*found[: 3 * rest], *(level for colour in colours for level in colour)])

    def reduced(image: Image.Image) -> Image.Image:
        return image.quantize(palette=palette, dither=Image.Dither.NONE)

    with path.open("wb") as stream:
        reduced(first).save(
            stream,
            "GIF",
            save_all=True,
            append_images=map(reduced, map(Image.fromarray, pictures)),
            duration=round(1000 / rate),
            loop=0,
            optimize=False,
        )


def _write_mp4(path: Path, pictures: Iterator[Picture], size: tuple[int, int], rate: int) -> None:
    import imageio_ffmpeg  # noqa: PLC0415  # an extra; a GIF needs none

    writer = imageio_ffmpeg.write_frames(
        str(path), size, fps=rate, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for picture in pictures:
            writer.send(np.ascontiguousarray(picture))
    finally:
        writer.close()
