"""SciPy's answer to the problem of `objectives.worst_weights`.

solved(np.array([1.0, 0.0, -2.0]), radius=0.5)       # NumPy [K]
"""

import numpy as np
import scipy.optimize


def solved(gains, radius):
    """Returns the maximiser by sequential quadratic programming over log p, float64."""
    k = len(gains)

    def share(z):
        e = np.exp(z - z.max())
        return e / e.sum()

    def objective(z):
        return -share(z) @ gains

    def objective_gradient(z):
        p = share(z)
        return -p * (gains - p @ gains)

    ball = {
        "type": "ineq",
        "fun": lambda z: radius + np.mean(np.log(k * share(z))),
        "jac": lambda z: 1 / k - share(z),
    }
    best = None
    for start in (np.zeros(k), gains / max(np.ptp(gains), 1e-9)):
        found = scipy.optimize.minimize(
            objective,
            start,
            jac=objective_gradient,
            constraints=[ball],
            method="SLSQP",
            options={"maxiter": 1000, "ftol": 1e-14},
        )
        if ball["fun"](found.x) > -1e-7 and (best is None or found.fun < best.fun):
            best = found
    return share(best.x)
