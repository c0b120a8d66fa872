"""How a blob is kept: as it is, or compressed, which the suffix of its file says.

zlib comes with Python. Zstandard does from 3.14 on; before, it takes the package ``zstandard``. Whatever comes out of a
file is only believed once its hash was checked: a stream that ends too early is no error here.
"""

import importlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, Literal

import msgspec

from session_log._errors import CallerError

Method = Literal["zlib", "zstd"]
SUFFIXES: Final[dict[str, Method | None]] = {"": None, ".zlib": "zlib", ".zst": "zstd"}
"""What the suffix of a blob's file says of how it is compressed; the order in which a reader looks for them."""
CHUNK_BYTES: Final = 1 << 20
"""What is read, hashed and written at a time: memory grows neither with a payload nor with what a bomb unpacks to."""
WORTH: Final = 0.9
"""A payload whose beginning shrinks to no less than this stays as it is: images, archives, what is random."""
COMPRESS_ABOVE_BYTES: Final = 4096
"""Up to here a payload takes one block of most file systems, however small it gets."""


class MissingCodec(CallerError):
    """A blob is compressed, or is to be, in a way that needs a package which is not there."""


class Compression(msgspec.Struct, frozen=True):
    """Compress payloads of more than ``above`` bytes with ``method``."""

    method: Method
    above: int

    @property
    def sample_bytes(self) -> int:
        """How much of the beginning of a payload decides."""
        return max(CHUNK_BYTES, self.above + 1)


def compression(method: str | None, above: int) -> Compression | None:
    """Return how to compress; None for not at all.

    Raises:
        CallerError: no such method, no such size, or a package is missing.
    """
    if type(above) is not int or above < 0:
        raise CallerError(f"compress_above={above!r}: is no number of bytes")
    if method is None:
        return None
    if method not in ("zlib", "zstd"):
        raise CallerError(f"compress_blobs={method!r}: is neither 'zlib' nor 'zstd'")
    _compressor(method)  # whether it is there
    return Compression(method, above)  # type: ignore[arg-type]  # one of the two


def suffix_for(how: Compression | None, beginning: bytes) -> str:
    """Return the suffix under which a payload is kept, by its first ``how.sample_bytes``."""
    if how is None or len(beginning) <= how.above:
        return ""
    sample = beginning[:CHUNK_BYTES]
    if sum(map(len, compressed((sample,), how.method))) >= len(sample) * WORTH:
        return ""
    return next(suffix for suffix, method in SUFFIXES.items() if method == how.method)


def compressed(chunks: Iterable[bytes], method: str | None) -> Iterator[bytes]:
    """Yield the chunks as they are kept: compressed into one stream, or as they are."""
    if method is None:
        yield from chunks
        return
    stream = _compressor(method)
    for chunk in chunks:
        if done := stream.compress(chunk):
            yield done
    yield stream.flush()


def decompressed(file: BinaryIO, method: str | None) -> Iterator[bytes]:
    """Yield what a file holds, ``CHUNK_BYTES`` at most at a time.

    Raises:
        ValueError: it is no such stream.
        MissingCodec: a package is not there.
    """
    if method is None:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    elif method == "zlib":
        yield from _zlib_chunks(file)
    else:
        yield from _zstd_chunks(file)


def _zlib_chunks(file: BinaryIO) -> Iterator[bytes]:
    import zlib

    stream = zlib.decompressobj()
    try:
        while not stream.eof and (data := stream.unconsumed_tail or file.read(CHUNK_BYTES)):
            if chunk := stream.decompress(data, CHUNK_BYTES):
                yield chunk
    except zlib.error as exc:
        raise ValueError(f"is no zlib stream ({exc})") from exc


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    zstd = _zstd()
    own = hasattr(zstd, "ZstdFile")  # Python's; else the package
    stream = zstd.ZstdFile(file) if own else zstd.ZstdDecompressor().stream_reader(file)
    try:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
    except (zstd.ZstdError, EOFError) as exc:
        raise ValueError(f"is no zstd stream ({exc})") from exc


def _compressor(method: str) -> Any:
    if method == "zlib":
        import zlib

        return zlib.compressobj(6)
    zstd = _zstd()
    return zstd.ZstdCompressor() if hasattr(zstd, "ZstdFile") else zstd.ZstdCompressor().compressobj()


def _zstd() -> Any:
    """Return the module for Zstandard: Python's own, or the package. The two differ."""
    for name in ("compression.zstd", "zstandard"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingCodec("zstd: needs the package zstandard; pip install 'session-log[zstd]'")
