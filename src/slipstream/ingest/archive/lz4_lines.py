"""Lines out of an LZ4 stream, in constant memory.

Chunks come as the network delivers them; a block of text leaves as soon as it holds a whole line. Neither the object
nor its text is ever held as one. An LZ4 frame says where it ends, so an object that was cut is noticed even where the
cut falls between two lines.

Source: LZ4 frame format 1.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import lz4.frame  # type: ignore[import-untyped]

from slipstream.errors import DataError

BLOCK_BYTES = 1 << 20
"""Text that is unpacked at a time."""
LONGEST_LINE = 64 << 20
"""A line longer than this is not a line; the largest blocks of fills have a few megabytes."""


class DamagedObject(DataError):
    """An object of the archive cannot be read; names the object and, where it is one line's fault, the line."""


def refused(name: str, number: int, what: str) -> DamagedObject:
    """The error for one line. Lines are counted from 1."""
    return DamagedObject(
        f"{name} line {number}: {what}; nothing of this object was kept. Fetch it again with the same command, and if "
        "that does not help the archive itself is damaged there"
    )


def unpacked(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The text of an LZ4 object, in pieces of at most :data:`BLOCK_BYTES`.

    Args:
        chunks: the object's bytes in order, in pieces of any size.
        name: what to call the object in errors.

    Raises:
        DamagedObject: the bytes are not LZ4 frames, a checksum differs, or the last frame is cut short.
    """
    decoder = lz4.frame.LZ4FrameDecompressor()
    whole, begun = False, 0
    for chunk in chunks:
        data = bytes(chunk)
        while True:
            whole = whole and not data  # bytes after a frame begin another
            try:
                text = decoder.decompress(data, max_length=BLOCK_BYTES)
            except RuntimeError as problem:
                raise DamagedObject(
                    f"{name}: cannot be unpacked after {begun} bytes of text ({problem}); nothing of it was kept. "
                    "Fetch it again with the same command"
                ) from problem
            data = b""
            if text:
                begun += len(text)
                yield text
            if decoder.eof:
                whole, data = True, decoder.unused_data or b""
                decoder = lz4.frame.LZ4FrameDecompressor()
                if not data:
                    break
            elif decoder.needs_input:
                break
    if not whole:
        raise DamagedObject(
            f"{name}: cut short after {begun} bytes of text; nothing of it was kept. "
            "Fetch it again with the same command"
        )


def line_blocks(texts: Iterable[bytes], name: str) -> Iterator[tuple[int, list[bytes]]]:
    """Whole lines, many at a time: (number of the first line, lines without their ends). Lines are counted from 1.

    Raises:
        DamagedObject: a line is longer than :data:`LONGEST_LINE`, or not UTF-8.
    """
    number, parts, held = 1, [], 0
    for text in texts:
        end = text.rfind(b"\n")
        if end < 0:
            parts.append(text)
            held += len(text)
            if held > LONGEST_LINE:
                raise refused(name, number, f"longer than {LONGEST_LINE >> 20} MiB without an end")
            continue
        parts.append(text[:end])
        lines = _split(b"".join(parts), number, name)
        yield number, lines
        number += len(lines)
        parts, held = [text[end + 1 :]], len(text) - end - 1
    rest = b"".join(parts)
    if rest:
        yield number, _split(rest, number, name)


def _split(text: bytes, number: int, name: str) -> list[bytes]:
    lines = text.split(b"\n")
    if not text.isascii():  # decoders do not look into what they skip
        for at, line in enumerate(lines):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as problem:
                raise refused(name, number + at, f"not UTF-8 ({problem.reason})") from problem
    return lines
