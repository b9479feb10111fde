"""Bounds the difference of float32 results that differ in nothing but the order of their sums.

A processor with wider registers, another library or another number of threads adds the same terms in another order. The
verdict of a test must not depend on that, so tolerances of what is computed twice follow from the arithmetic.
"""

import math

EPSILON = 2.0**-23  # of float32: an addition is off by at most half of it, relative to its result
CERTAIN = 6.0  # standard deviations


def rounding(terms: int, scale: float = 1.0, steps: int = 1) -> float:
    """Returns the most by which two orders of summation differ, by the probabilistic bound of Higham and Mary (2019).

    Each of the additions is off by at most EPSILON / 2 of the partial sum, one as likely up as down; so n of them are
    off by less than CERTAIN · √n · EPSILON / 2 of the largest partial sum, and two orders differ by less than twice
    that. Sums that follow each other add their roundings in the same way.

    Args:
        terms: the number of terms of each sum, such as the rows of a dense layer's kernel.
        scale: the size of the partial sums; if later steps enlarge a rounding, times their condition.
        steps: the number of such sums that follow each other.
    """
    return CERTAIN * math.sqrt(terms * steps) * EPSILON * scale
