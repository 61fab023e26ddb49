"""Bytes from files and memory into a file, at the speed of the system's own copying."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO

from onnx_net2net.errors import ModelError
from onnx_net2net.files.rope import File, Range, Rope

Progress = Callable[[int], None]
"""Called with the number of bytes that were copied since it was called last."""

_CHUNK = 1 << 18
_PAGE = 4096
_STRETCH = 1 << 26  # what the system copies at a time: long enough to be fast, short to watch
_UNSUPPORTED = {
    errno.ENOSYS,
    errno.EXDEV,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EBADF,
    errno.ETXTBSY,
}


def reserve(out: BinaryIO, size: int) -> None:
    """Set the room for a file aside, so that a full disk is met before anything is copied."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(out.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def copy(rope: Rope, out: BinaryIO, progress: Progress | None = None) -> None:
    """Write the bytes of `rope` to a new file; raises OSError and ModelError."""
    reserve(out, rope.size)
    for piece in rope.ranges:
        if isinstance(piece.store, File):
            _copy_range(piece.store, piece, out, progress)
        else:
            _write(memoryview(piece.store)[piece.offset : piece.offset + piece.length], out)
            _tell(progress, piece.length)


def copy_summed(rope: Rope, out: BinaryIO, progress: Progress | None = None) -> str:
    """Copy, and give 8 hexadecimal digits that stand for the content.

    They tell contents apart, not forgeries: a CRC costs a third of what a secure hash does.
    """
    reserve(out, rope.size)
    total = 0
    for piece in rope.ranges:
        for start in range(0, piece.length, _STRETCH):
            part = Range(piece.store, piece.offset + start, min(_STRETCH, piece.length - start))
            total = _copy_part(part, out, total)
            _tell(progress, part.length)
    return f"{total:08x}"


def _copy_part(part: Range, out: BinaryIO, total: int) -> int:
    """Copy through this process; the checksum so far."""
    if not isinstance(part.store, File):
        view = memoryview(part.store)[part.offset : part.offset + part.length]
        _write(view, out)
        return zlib.crc32(view, total)
    buffer = memoryview(bytearray(min(_CHUNK, part.length)))
    left = part.length
    with part.store.open() as stream:
        stream.seek(part.offset)
        while left:
            view = buffer[: stream.readinto(buffer[:left])]
            if not view:
                raise ModelError(f"'{part.store.path}' was cut short while it was read")
            _write(view, out)
            total = zlib.crc32(view, total)
            left -= len(view)
    return total


def _tell(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)


def _write(data: memoryview, out: BinaryIO) -> None:
    while data:
        data = data[out.write(data[: 1 << 30]) :]


def _copy_range(file: File, piece: Range, out: BinaryIO, progress: Progress | None = None) -> None:
    """Copy without the bytes coming through this process, where the system can do that well.

    What moves to another place in a page it copies in two parts a page, which takes longer
    than reading and writing.
    """
    offset, left = piece.offset, piece.length
    with file.open() as stream:
        moved = (offset - out.tell()) % _PAGE
        ways = () if moved else ("copy_file_range", "sendfile")
        for name in ways:
            way = getattr(os, name, None)
            while way and left:
                count = min(left, _STRETCH)
                source, sink = stream.fileno(), out.fileno()
                try:
                    if name == "copy_file_range":
                        copied = way(source, sink, count, offset_src=offset)
                    else:
                        copied = way(sink, source, offset, count)
                except OSError as error:
                    if error.errno not in _UNSUPPORTED:
                        raise
                    break
                if not copied:
                    break
                offset, left = offset + copied, left - copied
                _tell(progress, copied)
        stream.seek(offset)
        buffer = memoryview(bytearray(min(_CHUNK, left)))
        while left:
            view = buffer[: stream.readinto(buffer[:left])]
            if not view:
                raise ModelError(f"'{file.path}' was cut short while it was read")
            _write(view, out)
            left -= len(view)
            _tell(progress, len(view))


__all__ = ["Progress", "copy", "copy_summed", "reserve"]
