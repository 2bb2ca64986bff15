"""Looks over the bytes of a text file before any parser sees it: encoding, NUL, line length."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from ml.data.content import MAX_LINE_BYTES, DataError

CHUNK_BYTES = 1 << 20
BOM = codecs.BOM_UTF8
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass
class TextFacts:
    """What one pass over the bytes found."""

    quotes: int = 0
    is_blank: bool = True


def check_text(path: Path, *, limit_lines: bool) -> TextFacts:
    """Refuse what is not clean UTF-8 text, naming the byte; a leading byte order mark is fine."""
    facts = TextFacts()
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = lines = line_bytes = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            if offset == 0:
                _refuse_utf16(chunk)
            _refuse_nul(chunk, offset)
            _decode(decoder, chunk, offset, lines)
            line_bytes = _longest_open_line(chunk, line_bytes)
            if limit_lines and line_bytes > MAX_LINE_BYTES:
                raise DataError(
                    f"Line {lines + 1:,} is longer than {MAX_LINE_BYTES:,} bytes;"
                    " is a line break or a closing quote missing?",
                    byte=offset,
                )
            facts.quotes += chunk.count(b'"')
            facts.is_blank = facts.is_blank and not chunk.removeprefix(BOM).strip()
            lines += chunk.count(10)
            offset += len(chunk)
    _decode(decoder, b"", offset, lines, final=True)
    return facts


def _refuse_utf16(chunk: bytes) -> None:
    if chunk.startswith(UTF16):
        raise DataError("The file is UTF-16 text; save it as UTF-8.", byte=0)


def _refuse_nul(chunk: bytes, offset: int) -> None:
    if (found := chunk.find(0)) >= 0:
        byte = offset + found
        raise DataError(
            f"Byte {byte:,} is NUL, which does not occur in text; the file is damaged,"
            " or is not the text file that it seems to be.",
            byte=byte,
        )


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, offset: int, lines: int, final: bool = False
) -> None:
    held = len(decoder.getstate()[0])
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        byte = offset - held + error.start
        line = lines + chunk[: max(0, error.start - held)].count(10) + 1
        raise DataError(
            f"Line {line:,} is not UTF-8: byte {byte:,} is 0x{error.object[error.start]:02X}."
            " Save the file as UTF-8.",
            byte=byte,
        ) from None


def _longest_open_line(chunk: bytes, before: int) -> int:
    """The longest line that crosses this chunk's edge; lines inside a chunk are short anyway."""
    first = min((at for at in (chunk.find(b"\n"), chunk.find(b"\r")) if at >= 0), default=-1)
    if first < 0:
        return before + len(chunk)
    last = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
    # The line that this chunk closed counts only when it breaks the limit.
    return before + first if before + first > MAX_LINE_BYTES else len(chunk) - 1 - last
