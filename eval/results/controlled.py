"""Length-controlled win rates: what a win rate would be between responses of the same length.

AlpacaEval 2's model (Dubois et al. 2024, arXiv:2404.04475) without its term for the instruction's difficulty, which
needs many models: we win with probability sigmoid(a + b tanh(d / s)), where d is how much longer our response is and s
the standard deviation of d. The length-controlled win rate is sigmoid(a), where d is 0.
"""

import numpy as np
from scipy.special import expit, logit

from eval.results.statistics import Estimate, share

RIDGE = 0.01  # on b: of no weight beside data, but where length alone decides, b would be infinite
LARGEST = 20.0  # of a: where all is won, it would be infinite


def length_controlled(points: np.ndarray, longer: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    """Estimate a length-controlled win rate, with an interval by the infinitesimal jackknife.

    The jackknife (Jaeckel 1972) gives each response the linear effect that leaving it out has on the estimate. These
    effects go the same way as the points of a win rate: summed over clusters, and over seeds that vary.

    Args:
        points: 1 for a win, ½ for a tie and 0 for a loss, shape (seeds, prompts) or (seeds, prompts, samples).
        longer: tokens of our response less those of theirs, of the same shape.
        clusters: the number of each prompt's cluster.
    """
    spread = longer.std()
    x = np.tanh(longer / spread) if spread else np.zeros(longer.shape)
    a, b = fit(points.ravel(), x.ravel())
    predicted, rate = expit(a + b * x), expit(a)
    weight = predicted * (1 - predicted)
    hessian = np.array([[weight.sum(), (weight * x).sum()], [(weight * x).sum(), (weight * x**2).sum() + RIDGE]])
    effect_on_a = np.linalg.solve(hessian, [1.0, 0.0])  # of the gradient's two parts
    effects = (points - predicted) * (effect_on_a[0] + effect_on_a[1] * x)
    return share(rate + rate * (1 - rate) * points.size * (effects - effects.mean()), clusters)


def fit(points: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Return a and b of the model by maximum likelihood, b with a ridge."""
    from scipy.optimize import minimize  # takes half a second, and most commands fit nothing

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        z = found[0] + found[1] * x
        wrong = expit(z) - points
        value = (np.logaddexp(0, z) - points * z).sum() + RIDGE / 2 * found[1] ** 2
        return value, np.array([wrong.sum(), (wrong * x).sum() + RIDGE * found[1]])

    start = np.clip(logit(points.mean()), -LARGEST, LARGEST)
    bounds, precise = [(-LARGEST, LARGEST), (None, None)], {"ftol": 1e-14, "gtol": 1e-8}
    a, b = minimize(loss, (start, 0.0), jac=True, method="L-BFGS-B", bounds=bounds, options=precise).x
    return float(a), float(b)
