"""Opening a statement file: compression, kind of content and text encoding."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase, BufferedReader, RawIOBase, TextIOWrapper
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from charset_normalizer import from_bytes

from app.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_LINE = 1 << 20
# Gzip makes a thousand bytes out of one; no statement is as large.
MOST_UNPACKED_BYTES = 4 << 30
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_CHUNK = 1 << 20
_HEAD = 1 << 16
_GZIP = b"\x1f\x8b"
_RARE = 20  # text holds less than one control character in so many
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_REFUSED = (
    (re.compile(rb"PK\x03\x04"), "an Excel workbook or another zip archive"),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an old Excel workbook"),
    (re.compile(rb"%PDF"), "a PDF"),
    (re.compile(rb"\{\\rtf"), "a text processor document"),
    (
        re.compile(
            rb"\s*(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body|table|meta|div)\b",
            re.IGNORECASE | re.DOTALL,
        ),
        "a web page",
    ),
    (re.compile(rb"\s*[\[{]\s*(?:[\"{\[}]|\])"), "JSON"),
    (re.compile(rb"\s*(?:\{1:|:20:)"), "an MT940 message"),
)
_XML = re.compile(rb"\s*<\?xml\b", re.IGNORECASE)
_OFX = re.compile(rb"OFXHEADER\s*[:=]|<OFX>|<\?OFX\b", re.IGNORECASE)
_QIF = re.compile(rb"\s*!(?:Type|Account|Option|Clear)\b", re.IGNORECASE)
_UNDEFINED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
# Western words hold single accented letters; Cyrillic, Greek or Arabic words are runs of bytes above ASCII.
_HIGH_BYTE = re.compile(rb"[\x80-\xff]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_LONG_RUN = 3
_ODD_IN_WESTERN_WORD = re.compile(
    "(?<=[a-z])[\u00a1-\u00bf\u00d7\u00f7\u2020-\u2022\u2030\u2039\u203a\u02dc](?=[a-z])", re.IGNORECASE
)


class _Watched(RawIOBase):
    """A stored file that reports how far it has been read."""

    def __init__(self, stored: BufferedReader, progress: Callable[[int], None]) -> None:
        self._stored, self._progress = stored, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self._stored.readinto(buffer)
        self._progress(self._stored.tell())
        return count


class _Limited(RawIOBase):
    """What is unpacked from a file, up to MOST_UNPACKED_BYTES."""

    def __init__(self, unpacked: gzip.GzipFile) -> None:
        self._unpacked, self._count = unpacked, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self._unpacked.readinto(buffer)
        self._count += count
        if self._count > MOST_UNPACKED_BYTES:
            raise TooLarge(
                f"Unpacked, the file is larger than the {MOST_UNPACKED_BYTES >> 30} GiB that are read; split it."
            )
        return count


def clean_text(text: str) -> str:
    """Text without NULs, which PostgreSQL refuses, and without halves of surrogate pairs, which are no text."""
    return text if text.isascii() and "\0" not in text else _NO_TEXT.sub("", text)


@contextmanager
def open_bytes(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[BufferedIOBase]:
    """Open a file, unpacking gzip by its content rather than its name.

    Args:
        path: The file.
        progress: Called with the bytes of the stored file that have been read so far.

    Raises:
        InvalidInput: The file cannot be read or its compression is damaged.
        TooLarge: Raised while it is read: it is compressed, and unpacked larger than MOST_UNPACKED_BYTES.
    """
    try:
        with path.open("rb") as stored:
            packed = stored.read(len(_GZIP)) == _GZIP
            stored.seek(0)
            source = BufferedReader(_Watched(stored, progress), _CHUNK) if progress else stored
            if packed:
                with gzip.GzipFile(fileobj=source) as unpacked:
                    yield BufferedReader(_Limited(unpacked), _CHUNK)
            else:
                yield source
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InvalidInput("The compressed file is damaged or cut short; fetch it again.") from None
    except OSError as error:
        raise InvalidInput(f"The file cannot be read: {error.strerror or error}.") from None


@contextmanager
def open_text(path: Path, encoding: str, progress: Callable[[int], None] | None = None) -> Iterator[TextIO]:
    """Open a file as text with its line ends kept; bytes that the encoding forbids become U+FFFD.

    Raises:
        InvalidInput: As `open_bytes`, or the encoding cannot decode the file at all.
    """
    with open_bytes(path, progress) as source:
        readable = cast("BinaryIO", source)  # GzipFile declares no BinaryIO, but is one
        text = TextIOWrapper(readable, encoding, errors="replace", newline="")
        try:
            yield text
        except UnicodeError:
            raise InvalidInput("The file cannot be read in that encoding; give another one.") from None
        finally:
            text.detach()


def read_lines(text: TextIO) -> Iterator[str]:
    """Lines with their ends, cleaned and without a byte order mark.

    A line of more than MAX_LINE characters is cut there, so that no file can fill the memory.
    """
    cut = False
    first = text.readline(MAX_LINE).removeprefix("\ufeff")
    for piece in chain([first] if first else [], iter(partial(text.readline, MAX_LINE), "")):
        continues, cut = cut, len(piece) == MAX_LINE and piece[-1] not in "\r\n"
        if not continues:
            yield clean_text(piece)


def find_format(path: Path) -> str:
    """Tell from its first bytes what a file is.

    Args:
        path: The file.

    Returns:
        "csv" (any delimited text), "ofx" or "qif".

    Raises:
        InvalidInput: The file is empty or something else, which the message names.
    """
    with open_bytes(path) as source:
        head = source.read(_HEAD)
    if not head.replace(b"\0", b"").strip():
        raise InvalidInput("The file is empty.")
    for pattern, kind in _REFUSED:
        if pattern.match(head.removeprefix(codecs.BOM_UTF8)):
            raise InvalidInput(
                f"The file is {kind}, not a statement in CSV, OFX or QIF; export it as CSV and try again."
            )
    plain = head.replace(b"\0", b"").lstrip(codecs.BOM_UTF8 + codecs.BOM_UTF16_LE)
    if _OFX.search(plain[:4096]):
        return "ofx"
    if _QIF.match(plain):
        return "qif"
    if _XML.match(plain):
        raise InvalidInput("The file is an XML file that is not OFX; export the statement as CSV, OFX or QIF.")
    control = len(plain) - len(plain.translate(None, bytes(set(range(32)) - set(b"\t\n\r\f\v\x1a"))))
    if control * _RARE > len(plain):
        raise InvalidInput("The file is not a text file; export the statement as CSV, OFX or QIF and try again.")
    return "csv"


def find_encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """Find the text encoding from all bytes of a file.

    Returns:
        The encoding, and warnings where it had to be estimated.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    sample = bytearray()
    valid = True
    with open_bytes(path) as source:
        head = source.read(_HEAD)
        chunk = head
        marked = _by_mark(head)
        if marked:
            return marked, ()
        while chunk:
            if not chunk.isascii() and len(sample) < _HEAD:
                sample += b"\n".join(line for line in chunk.splitlines() if not line.isascii())[:_HEAD]
            if valid:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    valid = False
            if not valid and len(sample) >= _HEAD:
                break
            chunk = source.read(_CHUNK)
    return ("utf-8", ()) if valid else _estimate(bytes(sample))


def _by_mark(head: bytes) -> str | None:
    """The encoding that a byte order mark names, or that the zeros of UTF-16 give away."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[offset::2].count(0) > len(head) // 4 and head[1 - offset :: 2].count(0) == 0:
            return encoding
    return None


def _estimate(sample: bytes) -> tuple[str, tuple[str, ...]]:
    """The encoding of lines that are not all UTF-8."""
    read = sample.decode("utf-8", "replace")
    damaged = read.count("\ufffd")
    if sum(not character.isascii() for character in read) - damaged > damaged:
        return "utf-8", ("Some characters are not valid UTF-8 and are shown as \ufffd.",)
    long_runs = sum(len(run) for run in _HIGH_RUN.findall(sample) if len(run) >= _LONG_RUN)
    western = not _UNDEFINED_IN_CP1252.search(sample) and long_runs * 4 < len(_HIGH_BYTE.findall(sample))
    if western and not _ODD_IN_WESTERN_WORD.search(sample.decode("cp1252")):
        return "cp1252", ()
    best = from_bytes(sample).best()
    encoding = best.encoding if best else "latin-1"
    return encoding, (f"The text is read as {encoding}; if names look wrong, give another --encoding.",)
