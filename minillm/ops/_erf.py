"""The error function, which NumPy lacks (Cody 1969, Mathematics of Computation 23, pp. 631 to 637).

Two of his quotients of polynomials: erf itself near zero, and its complement times exp(x^2)
further out. Left out: his third, for the complement beyond 4; there erf is 1 to eight digits, and
the second one gives the others.
"""

import numpy as np

# Highest power first.
NEAR_ABOVE = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
NEAR_BELOW = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
FAR_ABOVE = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
FAR_BELOW = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)


def erf(x):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Parameters
    ----------
    x : (...)

    Returns
    -------
    y : (...), within 4 eps of the true value
    """
    size = np.abs(x)
    near = np.minimum(size, 0.46875)
    far = np.minimum(size, 6)  # 1 - erf(6) is below the last digit of a float64
    square = near * near
    erf_near = near * (polynomial(NEAR_ABOVE, square) / polynomial(NEAR_BELOW, square))
    erfc_far = np.exp(-far * far) * (polynomial(FAR_ABOVE, far) / polynomial(FAR_BELOW, far))
    return np.copysign(np.where(size <= 0.46875, erf_near, 1 - erfc_far), x)


def polynomial(coefficients, x):
    """Horner's rule; the coefficients stay Python floats, so that float32 stays float32."""
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value
