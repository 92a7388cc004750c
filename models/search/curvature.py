"""The Hessian of a block of linear problems, and the preconditioner for it.

Source of the preconditioner: Frangella, Tropp, Udell 2023, "Randomized Nystrom preconditioning", SIAM J.
Matrix Anal. Appl. 44(2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.models.search.path_losses import Loss
from haemo.models.search.rows import FoldScaling, Rows, to_numpy

__all__ = ["Curvature", "nystrom_sketch"]

_SKETCH = 512


@dataclass(frozen=True, eq=False)
class Curvature:
    """Curvature and preconditioner of the problems that conjugate gradients still work on.

    Attributes
    ----------
    block
        The block of problems: its rows, sketch, and what it makes of the intercept.
    inverse_scale, mean : array of shape (d, p, 1)
    loss : Loss
    row_weights, curvature : array of shape (n, p, 1 or K)
        Row weights, and what the loss needs to bend a change of the scores.
    diagonal : array of shape (1, p, K)
        Sum over rows of the second derivative by each score.
    """

    block: Any
    inverse_scale: Any
    mean: Any
    loss: Loss
    row_weights: Any
    curvature: Any
    diagonal: Any

    def select(self, keep: Any) -> "Curvature":
        """The same for the problems at the given positions."""
        return Curvature(
            self.block,
            self.inverse_scale[:, keep],
            self.mean[:, keep],
            self.loss.select(keep),
            self.row_weights[:, keep],
            self.curvature[:, keep],
            self.diagonal[:, keep],
        )

    def curve(self, p: Any, p_u: Any) -> tuple[Any, Any]:
        """The Hessian times (p, p_u)."""
        block = self.block
        scaled = p * self.inverse_scale
        base = block.unit * p_u - (self.mean * scaled).sum(axis=0)[None]

        def bend(products: Any, where: slice | np.ndarray) -> Any:
            change = products.reshape(-1, *scaled.shape[1:]) + base
            bent = self.loss.bend(self.curvature[where], self.row_weights[where], change)
            return bent.reshape(products.shape)

        raw, sums = block.rows.sandwich(scaled.reshape(scaled.shape[0], -1), bend)
        raw, sums = raw.reshape(p.shape), sums.reshape(p_u.shape)
        return p + self.inverse_scale * (raw - self.mean * sums), block.penalty * p_u + block.unit * sums

    def precondition(self, residual: Any, residual_u: Any) -> tuple[Any, Any]:
        """The inverse of I + mean curvature * sketch of Z'Z, and of the intercept's own curvature."""
        vectors, values = self.block.sketch
        weighted = values[:, None, None] * self.diagonal / self.block.rows.shape[0]
        flat = residual.reshape(residual.shape[0], -1)
        inside = (vectors.T @ flat).reshape(-1, *residual.shape[1:]) * (weighted / (1.0 + weighted))
        outside = (vectors @ inside.reshape(inside.shape[0], -1)).reshape(residual.shape)
        own = self.block.penalty + self.block.unit**2 * self.diagonal
        return residual - outside, residual_u / own


def nystrom_sketch(rows: Rows, scaling: FoldScaling) -> tuple[Any, Any]:
    """Leading eigenvectors (d, k) and eigenvalues (k,) of Z'Z, Z standardised by the folds' mean scaling."""
    n, d = rows.shape
    rank = min(_SKETCH, d, n // 8 + 1)
    start = np.random.default_rng(0).standard_normal((d, rank)) / np.sqrt(d)
    inverse_scale = 1.0 / scaling.scale.mean(axis=0)[:, None]
    mean = rows.array(scaling.mean.mean(axis=0)[:, None])
    scaled = rows.array(inverse_scale * start)
    base = (mean * scaled).sum(axis=0)
    raw, sums = rows.sandwich(scaled, lambda products, where: products - base)
    image = inverse_scale * to_numpy(raw - mean * sums)
    # Nystrom: image (start' image)^-1 image', by a Cholesky factor of the shifted middle.
    shift = np.finfo(np.float32).eps * np.linalg.norm(image) + np.finfo(np.float64).tiny
    middle = start.T @ image + shift * (start.T @ start)
    factor = np.linalg.cholesky(0.5 * (middle + middle.T))
    root = np.linalg.solve(factor, (image + shift * start).T).T
    # Eigenvectors of the small root' root give those of root root'; tiny ones are noise and are left out.
    values, turned = np.linalg.eigh(root.T @ root)
    clear = values > max(2.0 * shift, 1e-10 * values[-1])
    vectors = root @ (turned[:, clear] / np.sqrt(values[clear]))
    return rows.array(vectors), rows.array(values[clear] - shift)
