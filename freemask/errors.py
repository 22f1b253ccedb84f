"""The error whose message is written for users."""


class InputError(ValueError):
    """Bad input: the message says what was wrong, the value, and what to do.

    Scripts print it without a traceback and exit with code 1 (see freemask.cli).
    """
