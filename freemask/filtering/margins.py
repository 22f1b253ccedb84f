"""The grid of tolerance margins alpha: 0.05, 0.10, ..., 12.75, numbered by margin codes 1 to 255.

A margin map holds, per pixel, the number of these alphas that filter it (8 bit, see freemask.filtering.scoring). So a
pixel is filtered at an alpha if and only if its code is at least margin_code(alpha).
"""

import math

from freemask.errors import InputError

STEP = 0.05
LARGEST_CODE = 255  # codes saturate here
ALPHAS = tuple(round(STEP * code, 2) for code in range(1, LARGEST_CODE + 1))


def parse_alpha(text: str) -> float:
    """Read a tolerance margin: a multiple of 0.05 from 0.05 to 12.75, or inf (no filtering).

    Raises: InputError for another value.
    """
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if alpha != math.inf and not any(math.isclose(alpha, known) for known in ALPHAS):
        raise InputError(
            f"alpha = {text}: want a multiple of {STEP} from {ALPHAS[0]} to {ALPHAS[-1]}, or .inf (no filter)"
        )
    return alpha


def margin_code(alpha: float) -> int:
    """Smallest margin code that an alpha filters: alpha / 0.05; for inf one that no pixel has."""
    return LARGEST_CODE + 1 if math.isinf(alpha) else round(alpha / STEP)
