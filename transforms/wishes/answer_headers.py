"""What the header of an answer wishes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from alignset.transforms.columns.opt_outs import CONTENT_USAGE, TDM_RESERVATION, X_ROBOTS_TAG
from alignset.transforms.wishes.content_usage import usage_allowed
from alignset.transforms.wishes.robots_tags import has_directive
from alignset.transforms.wishes.tdm_reservation import is_reserved
from alignset.transforms.wishes.wish_settings import WishSettings

_X_ROBOTS_TAG = b"x-robots-tag"
_TDM_RESERVATION = b"tdm-reservation"
_CONTENT_USAGE = b"content-usage"
_MOST_LINES = 1_000


def header_opt_outs(
    lines: Sequence[bytes],
    settings: WishSettings,
    directives: Collection[str],
    reserved_by_file: bool = False,
) -> tuple[str, ...]:
    """Which wishes against its use an answer's header states, as details of `opted_out`.

    Args:
      lines: of the header, as they came.
      directives: of X-Robots-Tag, that are honoured.
      reserved_by_file: whether the host's tdmrep.json reserves the rights; what the header says of
        that comes before it.
    """
    told = b"".join(lines).lower()
    opt_outs = []
    if directives and _X_ROBOTS_TAG in told:
        values = (value.decode("latin-1") for value in field_values(lines, _X_ROBOTS_TAG))
        if any(has_directive(value, settings.user_agent_token, directives) for value in values):
            opt_outs.append(X_ROBOTS_TAG)
    if settings.tdm_reservation:
        reserved = reserved_by_file
        if _TDM_RESERVATION in told:
            fields = field_values(lines, _TDM_RESERVATION)
            stated = {is_reserved(field.decode("latin-1")) for field in fields} - {None}
            reserved = True in stated if stated else reserved
        if reserved:
            opt_outs.append(TDM_RESERVATION)
    if settings.content_usage and _CONTENT_USAGE in told:
        statement = b", ".join(field_values(lines, _CONTENT_USAGE))
        if usage_allowed(statement, settings.usage_categories) is False:
            opt_outs.append(CONTENT_USAGE)
    return tuple(opt_outs)


def states_wish(header: bytes) -> bool:
    """Whether a header may state a wish: a quick look."""
    told = header.lower()
    return _X_ROBOTS_TAG in told or _TDM_RESERVATION in told or _CONTENT_USAGE in told


def field_values(lines: Sequence[bytes], name: bytes) -> Iterator[bytes]:
    """The values of the header lines of this name, which is in lower case."""
    for line in lines[:_MOST_LINES]:
        of, _, value = line.partition(b":")
        if of.strip().lower() == name:
            yield value.strip()
