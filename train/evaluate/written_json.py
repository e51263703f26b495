"""A result as JSON, which has no NaN: other programs would refuse the line."""

import json

from alignset.train.errors import SettingsError


def as_json(result: object, indent: int | None = None) -> str:
    """Raises SettingsError where a number is not finite."""
    try:
        return json.dumps(result, indent=indent, allow_nan=False)
    except ValueError as error:
        raise SettingsError(
            "a number of the result is not defined: --data has too few things, or all of them are "
            "equal in what is measured"
        ) from error
