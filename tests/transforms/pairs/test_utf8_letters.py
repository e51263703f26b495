import numpy as np

from alignset.transforms.pairs.utf8_letters import decode_letter, encode_letter


def test_every_character_is_read_and_written_as_utf8() -> None:
    edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x10FFFF]
    for code in [*edges, *range(1, 0x110000, 997)]:
        if 0xD800 <= code < 0xE000:
            continue
        written = chr(code).encode()
        data = np.frombuffer(b"x" + written + b" " * 8, np.uint8)
        assert decode_letter(data, 1) == (code, len(written))
        room = np.full(8, 0xEE, np.uint8)
        end = encode_letter(np.uint32(code), room, 1)
        assert room.tobytes()[:end] == b"\xee" + written
        assert set(room.tobytes()[end:]) == {0xEE}
