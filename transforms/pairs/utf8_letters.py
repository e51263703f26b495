"""Characters of valid UTF-8, read and written inside kernels."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(inline="always")
def decode_letter(data, at):  # type: ignore[no-untyped-def]
    """The character at this place of valid UTF-8, and how many bytes it takes."""
    lead = np.uint32(data[at])
    if lead < 0x80:
        return lead, 1
    tail = np.uint32(data[at + 1] & 0x3F)
    if lead < 0xE0:
        return (lead & np.uint32(0x1F)) << np.uint32(6) | tail, 2
    tail = tail << np.uint32(6) | np.uint32(data[at + 2] & 0x3F)
    if lead < 0xF0:
        return (lead & np.uint32(0x0F)) << np.uint32(12) | tail, 3
    tail = tail << np.uint32(6) | np.uint32(data[at + 3] & 0x3F)
    return (lead & np.uint32(0x07)) << np.uint32(18) | tail, 4


@njit(inline="always")
def encode_letter(code, room, end):  # type: ignore[no-untyped-def]
    """Writes a character as UTF-8; returns where it ends."""
    if code < 0x80:
        room[end] = code
        return end + 1
    if code < 0x800:
        room[end] = 0xC0 | code >> 6
    else:
        if code < 0x10000:
            room[end] = 0xE0 | code >> 12
        else:
            room[end] = 0xF0 | code >> 18
            end += 1
            room[end] = 0x80 | code >> 12 & 0x3F
        end += 1
        room[end] = 0x80 | code >> 6 & 0x3F
    room[end + 1] = 0x80 | code & 0x3F
    return end + 2
