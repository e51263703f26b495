import pytest

from alignset.transforms.wishes.answer_headers import field_values, header_opt_outs, states_wish
from alignset.transforms.wishes.wish_settings import WishSettings

HOW = WishSettings()
OFF = WishSettings(tdm_reservation=False, content_usage="", disallowed_header_directives="")


@pytest.mark.parametrize(
    ("lines", "reserved", "opt_outs"),
    [
        ([], False, ()),
        (["X-Robots-Tag: noai"], False, ("x_robots_tag",)),
        (["x-robots-tag:nofollow", "X-ROBOTS-TAG: noindex"], False, ("x_robots_tag",)),
        (["X-Robots: noai", "X-Other: noai"], False, ()),
        (["tdm-reservation: 1"], False, ("tdm_reservation",)),
        (["TDM-Reservation:1"], False, ("tdm_reservation",)),
        (["tdm-reservation: 0"], True, ()),  # comes before the host's file
        (["tdm-reservation: yes"], True, ("tdm_reservation",)),  # says nothing
        (["tdm-policy: https://a.example/p"], False, ()),
        ([], True, ("tdm_reservation",)),
        (["tdm-reservation: 0", "tdm-reservation: 1"], False, ("tdm_reservation",)),
        (["Content-Usage: train-ai=n"], False, ("content_usage",)),
        (["Content-Usage: search=y", "content-usage: train-ai=n"], False, ("content_usage",)),
        (["Content-Usage: train-ai=n", "Content-Usage: train-ai=y"], False, ()),
        (["Content-Usage: train-ai=n,"], False, ()),
        (["Content-Usage: search=n"], False, ()),
        (
            ["Content-Usage: train-genai=n", "tdm-reservation: 1", "X-Robots-Tag: noai"],
            False,
            ("x_robots_tag", "tdm_reservation", "content_usage"),
        ),
    ],
)
def test_what_a_header_wishes(lines: list[str], reserved: bool, opt_outs: tuple[str, ...]) -> None:
    told = [b"HTTP/1.1 200 OK\r\n", *(f"{line}\r\n".encode() for line in lines), b"\r\n"]
    assert header_opt_outs(told, HOW, HOW.directives, reserved) == opt_outs
    assert header_opt_outs(told, OFF, OFF.directives, reserved) == ()
    if opt_outs and not reserved:
        assert states_wish(b"".join(told))


def test_values_of_a_field() -> None:
    lines = [b'ETag: "a:b"\r\n', b"etag:c", b"Other: d"]
    assert list(field_values(lines, b"etag")) == [b'"a:b"', b"c"]
    assert not states_wish(b"".join(lines))
