"""Writing files that appear whole or not at all, at the speed of copying them.

A file is written under a temporary name in its own folder and renamed when it is on the disk.
The writer holds a lock on the temporary file, so that the next one can tell what a killed
process has left behind from what another is writing.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from onnx_net2net.errors import ModelError
from . import external_data
from .rope import File, Range, Rope

if sys.platform != "win32":
    import fcntl

Progress = Callable[[int], None]
"""Called with the number of bytes that were copied since it was called last."""

_ENDING = ".n2n-tmp"
_CHUNK = 1 << 18
_PAGE = 4096
_STRETCH = 1 << 26  # what the system copies at a time: long enough to be fast, short to watch
_UNSUPPORTED = {
    errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF,
    errno.ETXTBSY,
}  # fmt: skip


class AlreadyThereError(FileExistsError):
    """The file to write is there and is not to be replaced."""


def check(target: Path, kept: set[Path], *, force: bool) -> None:
    """Raise OSError where a file cannot or must not be written.

    Args:
        target: the file to write.
        kept: files that are read from.
        force: a file that is there may be replaced.

    Raises:
        FileExistsError: it is one of `kept`, or is there (AlreadyThereError, without `force`).
        IsADirectoryError, FileNotFoundError: it is a folder, or its folder is missing.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(target))
    if target.exists() and not target.is_file():  # /dev/null is not to be replaced
        raise FileExistsError(errno.EEXIST, "is no regular file", str(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(target.parent))
    if any(_same(target, path) for path in kept):
        raise FileExistsError(errno.EEXIST, "is read from and never written to", str(target))
    if not force and os.path.lexists(target):
        raise AlreadyThereError(errno.EEXIST, "already there", str(target))


def write(rope: Rope, target: Path, progress: Progress | None = None) -> None:
    """Write bytes to a file, replacing what is there; raises OSError.

    Args:
        rope: the bytes.
        target: the file, which appears whole or not at all.
        progress: is told how many bytes were copied.
    """
    _clean(target)
    _check_room(target.parent, rope.size)
    with _temporary(target) as (stream, path):
        _copy(rope, stream, progress)
        with _replacing(target, rope):
            _publish(stream, path, target)
    _sync_folder(target.parent)


def write_external(
    model: Callable[[str], tuple[Rope, Rope]], target: Path, progress: Progress | None = None
) -> None:
    """Write a model to `target` and its payloads beside it; raises OSError.

    The data file is named after its content, so that neither an older model nor a half-done
    write can meet the wrong data; the model comes last.

    Args:
        model: gives the model and the data for a name of the data file.
    """
    _clean(target)
    skeleton, payloads = model(_data_name(target, "0" * 8))
    _check_room(target.parent, skeleton.size + payloads.size)
    with _temporary(target) as (data_stream, data_path):
        digest = _copy_summed(payloads, data_stream, progress)
        data = target.with_name(_data_name(target, digest))
        known = data.exists()
        skeleton, _ = model(data.name)
        with _temporary(target, "" if known else digest) as (stream, path):
            _copy(skeleton, stream)
            _sync(stream)
            if not any(_same(data, file.path) for file in payloads.files()):
                _publish(data_stream, data_path, data)
            try:
                with _replacing(target, payloads):
                    _publish(stream, path, target)
            except BaseException:
                if not known:
                    data.unlink(missing_ok=True)
                raise
    _sync_folder(target.parent)


@contextmanager
def _replacing(target: Path, rope: Rope) -> Iterator[None]:
    """Afterwards, the data files of the model that was replaced are gone, unless still read.

    Args:
        rope: what was written; what it was read from stays.
    """
    old = []
    if target.exists():
        ours = re.compile(re.escape(target.stem) + r"-([0-9a-f]{8})\.data")
        named = (ours.fullmatch(name) for name in _locations(target) or ())
        old = [found[1] for found in named if found]
    with ExitStack() as marks:
        for digest in old:  # so that the next run finds them if this one is killed now
            marks.enter_context(_temporary(target, digest))
        yield
        for digest in old:
            data = target.with_name(_data_name(target, digest))
            if not any(_same(data, file.path) for file in rope.files()):
                _drop_unread(data, target)


def _drop_unread(data: Path, target: Path) -> None:
    """Remove a data file of ours that no model in its folder refers to, `target` included."""
    models = {*data.parent.glob("*.onnx"), target} if data.exists() else ()
    for path in models:
        if not path.exists():
            continue
        found = _locations(path)
        if found is None or data.name in found:
            return
    with suppress(OSError):
        data.unlink()


def _locations(path: Path) -> set[str] | None:
    """The data files that a model refers to; None if that cannot be told."""
    try:
        file = File.at(path)
        return external_data.locations(Rope([Range(file, 0, file.size)]))
    except (OSError, ModelError):
        return None


def _data_name(target: Path, digest: str) -> str:
    return f"{target.stem}-{digest}.data"


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{size} bytes needed and {free} free", str(folder))


@contextmanager
def _temporary(target: Path, digest: str = "") -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `target` that is gone afterwards, unless it was renamed."""
    name = f".{target.name}.{secrets.token_hex(4)}{digest and '-' + digest}{_ENDING}"
    path = target.with_name(name)
    with path.open("xb", buffering=0) as stream:
        try:
            _lock(stream)
            yield stream, path
        finally:
            with suppress(OSError):
                path.unlink()


def _lock(stream: BinaryIO) -> None:
    """Take the lock or raise OSError; on Windows a file that is open is as good as locked."""
    if sys.platform != "win32":
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clean(target: Path) -> None:
    """Remove what killed writers of `target` have left behind."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}(-([0-9a-f]{{8}}))?{_ENDING}")
    for name in os.listdir(target.parent):
        found = ours.fullmatch(name)
        if not found:
            continue
        path = target.with_name(name)
        with suppress(OSError), path.open("rb+") as stream:
            _lock(stream)
            if found[2]:  # killed between the renames: the data file may have no model
                _drop_unread(target.with_name(_data_name(target, found[2])), target)
            path.unlink()


def _publish(stream: BinaryIO, path: Path, target: Path) -> None:
    _sync(stream)
    if sys.platform == "win32":  # which does not rename a file that is open
        stream.close()
    os.replace(path, target)


def _sync(stream: BinaryIO) -> None:
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last; not every system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reserve(out: BinaryIO, size: int) -> None:
    """Set the room for a file aside, so that a full disk is met before anything is copied."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(out.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _copy(rope: Rope, out: BinaryIO, progress: Progress | None = None) -> None:
    """Write the bytes of `rope` to a new file; raises OSError and ModelError."""
    _reserve(out, rope.size)
    for piece in rope.ranges:
        done = 0
        # What moves to another place in a page the system copies in two parts a page, which
        # takes longer than reading and writing.
        if isinstance(piece.store, File) and not (piece.offset - out.tell()) % _PAGE:
            done = _copy_range(piece.store, piece, out, progress)
        if done < piece.length:
            rest = Range(piece.store, piece.offset + done, piece.length - done)
            for view in _views(rest):
                _write(view, out)
                _tell(progress, len(view))


def _copy_summed(rope: Rope, out: BinaryIO, progress: Progress | None = None) -> str:
    """Copy, and give 8 hexadecimal digits that stand for the content.

    They tell contents apart, not forgeries: a CRC costs a third of what a secure hash does.
    """
    _reserve(out, rope.size)
    total = 0
    for piece in rope.ranges:
        for view in _views(piece):
            _write(view, out)
            total = zlib.crc32(view, total)
            _tell(progress, len(view))
    return f"{total:08x}"


def _views(piece: Range) -> Iterator[memoryview]:
    """The bytes of a range, those of a file in small parts; raises ModelError if it is shorter."""
    if not isinstance(piece.store, File):
        yield memoryview(piece.store)[piece.offset : piece.offset + piece.length]
        return
    left = piece.length
    buffer = memoryview(bytearray(min(_CHUNK, left)))
    with piece.store.open() as stream:
        stream.seek(piece.offset)
        while left:
            view = buffer[: stream.readinto(buffer[:left])]
            if not view:
                raise ModelError(
                    f"'{piece.store.path}' was cut short while in use", "read it again"
                )
            yield view
            left -= len(view)


def _tell(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)


def _write(data: memoryview, out: BinaryIO) -> None:
    while data:
        data = data[out.write(data[: 1 << 30]) :]


def _copy_range(file: File, piece: Range, out: BinaryIO, progress: Progress | None = None) -> int:
    """Copy without the bytes coming through this process; how many the system copied so."""
    done = 0
    with file.open() as stream:
        for way in _ways(stream.fileno(), out.fileno()):
            while done < piece.length:
                try:
                    copied = way(piece.offset + done, min(piece.length - done, _STRETCH))
                except OSError as error:
                    if error.errno not in _UNSUPPORTED:
                        raise
                    break
                if not copied:
                    break
                done += copied
                _tell(progress, copied)
    return done


def _ways(source: int, sink: int) -> Iterator[Callable[[int, int], int]]:
    """The system's calls that copy `count` bytes at `offset` of one open file to another."""
    if hasattr(os, "copy_file_range"):
        yield lambda offset, count: os.copy_file_range(source, sink, count, offset_src=offset)
    if hasattr(os, "sendfile"):
        yield lambda offset, count: os.sendfile(sink, source, offset, count)
