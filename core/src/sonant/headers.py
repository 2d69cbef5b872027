"""Sound files whose header does not tell how long they are, or whose end is missing, where libsndfile would not notice.

Three cases: a wav file from a pipe with 0 for the size of its samples, an mp3 file of changing bit rate without a count of its
frames (libsndfile guesses the length from the first one), and an Ogg file that ends within a page.
"""

from __future__ import annotations

import io
import struct
from typing import IO

from sonant.errors import AudioError

UNKNOWN_SIZE = 0x7FFFF000
"""Writers that cannot seek back leave sizes from here on in a header: sox 0x7FFFF000, arecord 0x7FFFFFFF, ffmpeg 0xFFFFFFFF."""

_OGG_PAGE = 27 + 255 + 255 * 255  # the longest there is
_KBPS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1, layer III
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2
    0: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2.5
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def mend(stream: IO[bytes]) -> io.BytesIO | None:
    """The content of `stream` with its length put into the header, or None where that is not needed.

    Raises:
        AudioError: the end is missing.
    """
    stream.seek(0)
    head = stream.read(4)
    if head == b"RIFF":
        return _wav(stream)
    if head == b"OggS":
        _ogg(stream)
    elif head[:3] == b"ID3" or head[:1] == b"\xff":
        return _mp3(stream)
    return None


def _wav(stream: IO[bytes]) -> io.BytesIO | None:
    length = stream.seek(0, io.SEEK_END)
    (riff,) = struct.unpack("<I", _at(stream, 4, 4).ljust(4, b"\0"))
    position = 12
    while len(chunk := _at(stream, position, 8)) == 8 and chunk[:4] != b"data":
        (size,) = struct.unpack("<I", chunk[4:])
        position += 8 + size + size % 2
    body = position + 8
    if chunk != b"data\0\0\0\0" or body == length or body < riff + 8 < UNKNOWN_SIZE:
        return None
    content = bytearray(_at(stream, 0, length))
    content[position + 4 : body] = b"\xff\xff\xff\xff"
    return io.BytesIO(content)


def _at(stream: IO[bytes], position: int, size: int) -> bytes:
    stream.seek(position)
    return stream.read(size)


def _ogg(stream: IO[bytes]) -> None:
    length = stream.seek(0, io.SEEK_END)
    tail = _at(stream, max(0, length - _OGG_PAGE), _OGG_PAGE)
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(page) < 27 + page[26] + sum(segments):
        raise AudioError("truncated: the file ends within a page")


def _mp3(stream: IO[bytes]) -> io.BytesIO | None:
    start = _after_id3(_at(stream, 0, 10))
    head = _at(stream, start, 256)
    if not _frame_size(head) or any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
        return None
    stream.seek(start)
    content = stream.read()
    return io.BytesIO(_counting_frame(head, _count(content)) + content)


def _after_id3(head: bytes) -> int:
    if head[:3] != b"ID3":
        return 0
    a, b, c, d = head[6:10].ljust(4, b"\0")
    return 10 + (a << 21 | b << 14 | c << 7 | d) + 10 * bool(head[5] & 0x10)


def _frame_size(header: bytes) -> int:
    """Bytes of the layer III frame that begins with `header`; 0 where none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version not in _KBPS or bitrate in (0, 15) or rate == 3:
        return 0
    return (144 if version == 3 else 72) * 1000 * _KBPS[version][bitrate - 1] // _RATES[version][rate] + (header[2] >> 1 & 1)


def _count(content: bytes) -> int:
    count, position = 0, 0
    while 0 <= position < len(content):
        size = _frame_size(content[position : position + 4])
        if size and position + size <= len(content):
            count, position = count + 1, position + size
        else:
            position = content.find(content[:1], position + 1)
    return count


def _counting_frame(first: bytes, count: int) -> bytes:
    """A Xing frame: silent, as long as can be, and with the number of the others."""
    header = bytes([0xFF, first[1] | 1, first[2] & 0x0C | 0xE0, first[3]])
    is_mono, is_first_version = first[3] >> 6 == 3, first[1] >> 3 & 3 == 3
    side = (17 if is_mono else 32) if is_first_version else (9 if is_mono else 17)
    return (header + bytes(side) + b"Xing" + struct.pack(">II", 1, count)).ljust(_frame_size(header), b"\0")
