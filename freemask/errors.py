"""The error whose message is written for users."""

from collections.abc import Collection


class InputError(ValueError):
    """Bad input: the message says what was wrong, the value, and what to do.

    Scripts print it without a traceback and exit with code 1 (see freemask.cli).
    """


def check_known(where: str, key: str, value: str, known: Collection[str], place: str = "") -> None:
    """InputError, in `where`'s name, unless a key's value is one of the known names; place: what defines them."""
    if value not in known:
        names = ", ".join(map(str, known)) or "(none)"
        raise InputError(f"{where}: {key} {value!r} isn't defined{place}; use one of: {names}")
