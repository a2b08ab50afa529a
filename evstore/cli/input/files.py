"""Files of lines: read, or written whole; compressed where their name says so."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, cast

from evstore.cli.session import UsageError
from evstore.transfer.interchange import read_lines

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from evstore.transfer.interchange import Line

STANDARD: Final = "-"
_SPOOL_BYTES_MAX: Final = 64 * 1024 * 1024
_PART_BYTES: Final = 16 * 1024
_STANDARD_INPUT: Final = "standard input"
_GZIP_LEVEL: Final = 6


class Source:
    """A file of lines; how far it is read shows in the file below any compression."""

    def __init__(self, name: str, raw: BinaryIO, *, suffix: str = "") -> None:
        self.name = name
        self._raw = raw
        self._file = _decompressed(raw, suffix)

    def tell(self) -> int:
        """Return how many bytes of the file have been read."""
        return self._raw.tell()

    def lines(self) -> Iterator[Line]:
        """Yield the lines.

        Raises:
            InvalidError: the file is damaged; names the first line that is not whole.
        """
        from evstore.errors import InvalidError

        number = 0
        try:
            for line in read_lines(self._file.readline):
                number = line.number
                yield line
        except (EOFError, OSError, zlib.error) as error:
            message = f"line {number + 1}: cannot be read on: {error}"
            raise InvalidError(message) from error


def _decompressed(raw: BinaryIO, suffix: str) -> IO[bytes]:
    match suffix:
        case ".gz":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
        case ".zst":
            return io.BufferedReader(cast("Any", _ZstdFile(raw)))
        case _:
            return raw


class _ZstdFile(io.RawIOBase):
    """Frames of zstd, decompressed; unlike the library's own it notices a cut one."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._raw = raw
        self._library: Any = zstandard
        self._frame: Any = None
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            part = self._next_part()
            if part is None:
                return 0
            self._left = part
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _next_part(self) -> bytes | None:
        part = self._frame.unused_data if self._frame and self._frame.eof else b""
        part = part or self._raw.read(_PART_BYTES)
        if not part:
            if self._frame is not None and not self._frame.eof:
                message = "Compressed file ended before the end of its frame"
                raise EOFError(message)
            return None
        if self._frame is None or self._frame.eof:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        try:
            return bytes(self._frame.decompress(part))
        except self._library.ZstdError as error:
            raise EOFError(str(error)) from error


@contextmanager
def opened(file: str) -> Generator[tuple[Source, int]]:
    """Open a file of lines; what cannot be measured is taken in first.

    That way nothing waits for a pipe while the store is open, and Ctrl-C always works.
    """
    try:
        if file == STANDARD:
            with _spooled(sys.stdin.buffer) as (raw, size):
                yield Source(_STANDARD_INPUT, raw), size
            return
        path = Path(file)
        with path.open("rb") as opened:
            if path.is_file():
                size = path.stat().st_size
                yield Source(file, opened, suffix=path.suffix), size
            else:
                with _spooled(opened) as (raw, size):
                    yield Source(file, raw, suffix=path.suffix), size
    except OSError as error:
        if error.filename is None:
            raise
        raise UsageError(f"{error.filename}: {error.strerror}") from error


@contextmanager
def _spooled(source: BinaryIO) -> Generator[tuple[BinaryIO, int]]:
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES_MAX) as spool:
        shutil.copyfileobj(source, spool)
        size = spool.tell()
        spool.seek(0)
        yield cast("BinaryIO", spool), size


@contextmanager
def written(file: str) -> Generator[IO[bytes]]:
    """Give a file to write to, which appears under its name when it is whole.

    What is under that name already stays until then, and for good where the body fails.
    `-` is standard output; what is no regular file, as a pipe, is written directly.
    """
    if file == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.exists() and not path.is_file():
        with path.open("wb") as pipe, _compressed(pipe, path.suffix) as out:
            yield out
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _new(fresh) as raw:
            with _compressed(raw, path.suffix) as out:
                yield out
            raw.flush()
            os.fsync(raw.fileno())
        fresh.replace(path)
        _settle(path.parent)
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def _new(path: Path) -> BinaryIO:
    try:
        # Its content may be secret: for nobody else to read.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise UsageError(f"{path.parent}: {error.strerror}") from error
    return os.fdopen(descriptor, "wb")


def _settle(folder: Path) -> None:
    """Make sure that the folder has the new name after a crash as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _compressed(raw: BinaryIO, suffix: str) -> Generator[IO[bytes]]:
    """Compress what is written; equal content gives equal files."""
    match suffix:
        case ".gz":
            zipped = gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0)
            with zipped:
                yield cast("IO[bytes]", zipped)
        case ".zst":
            import zstandard

            compressor = zstandard.ZstdCompressor(write_checksum=True)
            with compressor.stream_writer(raw, closefd=False) as zstd:
                yield cast("IO[bytes]", zstd)
        case _:
            yield raw
