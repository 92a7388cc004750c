"""Linear SVMs and softmax regressions for many C and all folds at once: one solver, a block of problems.

Each problem p minimises, over weights w and intercept b in its fold's standardised coordinates,

    P(w, b) = |w|^2 / 2 + penalty (b / s)^2 / 2 + sum_i c_i loss(y_i, w . z_i + b)

which is the objective of LinearSVC (squared hinge, penalty 1, s = intercept_scaling) and of
LogisticRegression (penalty 0): c_i is C times the class weight of row i, and 0 for rows that the fold
holds out. The solver is Newton's method with conjugate gradients inside. All problems share each pass over
the features, as columns of one matrix product; gradients are multiplied in float64, curvature (which
decides only the speed) in the precision of the features.

It stops by a bound on the optimality gap. P is 1-strongly convex in the penalised variables, so
P - P* <= |gradient|^2 / 2 (for the squared hinge this is the duality gap itself); an intercept without a
penalty is brought to its exact optimum before the gradient is taken, which keeps the bound true.

Conjugate gradients are slow where the classes of an SVM can nearly be parted and C is large. Problems that
some steps have not solved start anew from what another C has reached on the same fold, if that is lower, and
those with few rows inside the margin go on by way of these rows (`working_set`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import NotSolved
from haemo.models.search.curvature import Curvature, nystrom_sketch
from haemo.models.search.path_losses import Loss, SquaredHinge
from haemo.models.search.rows import FoldScaling, Rows, to_numpy
from haemo.models.search.working_set import WorkingSets

__all__ = ["PathProblems", "PathSolution", "solve_paths", "solved_in_turn"]

_MAX_NEWTON = 100
_MAX_CG = 500
_MAX_HALVINGS = 40
_MAX_SETTLING = 50
_LONGEST_SETTLING_STEP = 4.0
_FORCING = 0.1
_PATIENCE = 1  # Newton steps that all problems take alike
_MANY = 6  # after these most problems are near their optimum
_MEMORY = 1 << 30


@dataclass(frozen=True, eq=False)
class PathProblems:
    """A block of P problems over the same n rows, with K outputs each.

    Attributes
    ----------
    loss : Loss
        Holds the targets.
    fold : ndarray of shape (P,), int
        Which fold's scaling each problem uses.
    row_weights : ndarray of shape (n, P), float64
        c_i of each problem; 0 for rows outside its training part.
    intercept_scaling : float
        s above.
    penalise_intercept : bool
    """

    loss: Loss
    fold: np.ndarray
    row_weights: np.ndarray
    intercept_scaling: float = 1.0
    penalise_intercept: bool = True


@dataclass(frozen=True, eq=False)
class PathSolution:
    """Optima of a block of problems.

    Attributes
    ----------
    weights : ndarray of shape (P, K, d), float64
        In standardised coordinates.
    intercepts : ndarray of shape (P, K), float64
    scores : ndarray of shape (n, P, K), float64
        w . z + b for every row, held-out rows too.
    objective : ndarray of shape (P,), float64
    gap : ndarray of shape (P,), float64
        Upper bound on objective - optimum.
    newton_steps : ndarray of shape (P,), int
    """

    weights: np.ndarray
    intercepts: np.ndarray
    scores: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    newton_steps: np.ndarray


def solve_paths(
    rows: Rows, problems: PathProblems, scaling: FoldScaling, tolerance: float = 1e-7, memory: int = _MEMORY
) -> PathSolution:
    """Solve every problem of the block until its gap is at most `tolerance` times its objective.

    Parameters
    ----------
    rows : Rows
    problems : PathProblems
    scaling : FoldScaling
    tolerance : float
    memory : int
        Bytes that rows inside the margin of SVMs, and their kernel matrices, may take.

    Raises
    ------
    NotSolved
        If a problem is not solved after 100 Newton steps.
    """
    block = _Block(rows, problems, scaling, memory)
    for _ in block.run(tolerance):
        pass
    return block.solution()


def solved_in_turn(
    rows: Rows, problems: PathProblems, scaling: FoldScaling, tolerance: float = 1e-7, memory: int = _MEMORY
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `solve_paths`, but yield problems as soon as they are solved.

    Yields
    ------
    ndarray of shape (m,), int
        Problems that the last step found solved.
    ndarray of shape (n, m, K), float64
        Their scores.
    """
    block = _Block(rows, problems, scaling, memory)
    for solved in block.run(tolerance):
        yield solved, to_numpy(block.scores[:, rows.array(solved, np.int64)])


class _Block:
    """The state of all problems, and the steps that they take together.

    The intercept is kept as u = b / s, the variable whose square is penalised. Arrays have the problems
    in their second axis; `which` holds the problems that a method works on.
    """

    def __init__(self, rows: Rows, problems: PathProblems, scaling: FoldScaling, memory: int):
        n_problems, n_outputs = len(problems.fold), problems.loss.n_outputs
        self.rows, self.xp, self.loss = rows, rows.xp, problems.loss
        self.inverse_scale = rows.array((1.0 / scaling.scale[problems.fold]).T[:, :, None])
        self.mean = rows.array(scaling.mean[problems.fold].T[:, :, None])
        self.row_weights = rows.array(problems.row_weights[:, :, None])
        self.unit = problems.intercept_scaling
        self.penalty = 1.0 if problems.penalise_intercept else 0.0
        self.sketch = nystrom_sketch(rows, scaling)
        self.weights = rows.zeros(rows.shape[1], n_problems, n_outputs)
        self.offsets = rows.zeros(1, n_problems, n_outputs)
        self.scores = rows.zeros(rows.shape[0], n_problems, n_outputs)
        self.objective = np.zeros(n_problems)
        self.gap = np.full(n_problems, np.inf)
        self.steps = np.zeros(n_problems, dtype=int)
        self.fold, self.sets = problems.fold, None
        if isinstance(problems.loss, SquaredHinge) and problems.penalise_intercept:
            targets = to_numpy(problems.loss.targets)[:, :, 0]
            self.sets = WorkingSets(
                rows, scaling, problems.fold, problems.row_weights, targets, self.unit, memory
            )

    def run(self, tolerance: float) -> Iterator[np.ndarray]:
        """Step until all problems are solved; yield those that a step found solved."""
        active = np.arange(len(self.gap))
        for step in range(_MAX_NEWTON):
            if step == _PATIENCE and self.sets:
                self._adopt(active)
            unsolved = self.newton_step(active, tolerance)
            if len(unsolved) < len(active):
                yield np.setdiff1d(active, unsolved)
            active = unsolved
            if not len(active):
                return
        worst = np.max(self.gap[active] / self.objective[active])
        raise NotSolved(
            f"{len(active)} of {len(self.gap)} linear problems are not solved after {_MAX_NEWTON} Newton "
            f"steps (relative gap {worst:.1e}); leave out the largest C, or standardise the features"
        )

    def solution(self) -> PathSolution:
        """What has been reached, on the host."""
        return PathSolution(
            weights=to_numpy(self.weights).transpose(1, 2, 0).copy(),
            intercepts=self.unit * to_numpy(self.offsets)[0],
            scores=to_numpy(self.scores),
            objective=self.objective,
            gap=self.gap,
            newton_steps=self.steps,
        )

    def newton_step(self, active: np.ndarray, tolerance: float) -> np.ndarray:
        """Move the active problems on; returns those that are not solved yet."""
        which = self.rows.array(active, np.int64)
        if self.penalty == 0.0:
            self._settle_offsets(which)
        loss, row_weights = self.loss.select(which), self.row_weights[:, which]
        weights, offsets, scores = self.weights[:, which], self.offsets[:, which], self.scores[:, which]
        slopes = loss.slopes(scores, row_weights)
        gradient = weights + self._adjoint(slopes, which)
        gradient_u = self.penalty * offsets + self.unit * slopes.sum(axis=0)[None]
        squared = _dot(gradient, gradient) + _dot(gradient_u, gradient_u)
        size = _dot(weights, weights) + self.penalty * _dot(offsets, offsets)
        objective = 0.5 * size + loss.value(scores, row_weights)
        self.objective[active] = to_numpy(objective)
        self.gap[active] = 0.5 * to_numpy(squared)
        unsolved = self.gap[active] > tolerance * self.objective[active]
        if unsolved.any():
            few = unsolved & self._has_few(active)
            if few.any():
                self._move_by_sets(active[few])
            if (unsolved & ~few).any():
                keep = self.rows.array(np.flatnonzero(unsolved & ~few), np.int64)
                aim = (2.0 * tolerance * objective[keep]) ** 0.5
                self._move(which[keep], gradient[:, keep], gradient_u[:, keep], objective[keep], aim)
            self.steps[active[unsolved]] += 1
        return active[unsolved]

    def _move(self, which: Any, gradient: Any, gradient_u: Any, objective: Any, aim: Any) -> None:
        """Find a Newton direction by conjugate gradients and go along it until the objective falls."""
        loss, row_weights = self.loss.select(which), self.row_weights[:, which]
        weights, offsets, scores = self.weights[:, which], self.offsets[:, which], self.scores[:, which]
        direction, direction_u = self._newton_direction(which, gradient, gradient_u, aim)
        change = self._products(direction, which) + self.unit * direction_u
        fall = _dot(gradient, direction) + _dot(gradient_u, direction_u)
        length = self.xp.ones_like(fall)
        for _ in range(_MAX_HALVINGS):
            stretch = length[None, :, None]
            moved, moved_u = weights + stretch * direction, offsets + stretch * direction_u
            moved_scores = scores + stretch * change
            size = _dot(moved, moved) + self.penalty * _dot(moved_u, moved_u)
            reached = 0.5 * size + loss.value(moved_scores, row_weights)
            # The last term lets a step through whose gain is below what float64 can show.
            enough = reached <= objective + 1e-4 * length * fall + 1e-14 * objective
            if bool(enough.all()):
                break
            length = self.xp.where(enough, length, 0.5 * length)
        self.weights[:, which], self.offsets[:, which] = moved, moved_u
        self.scores[:, which] = moved_scores

    def _has_few(self, active: np.ndarray) -> np.ndarray:
        """Which problems go on by way of the rows inside their margin; none of the first steps."""
        if not self.sets or self.steps[active].min() < _PATIENCE:
            return np.zeros(len(active), dtype=bool)
        scores = to_numpy(self.scores[:, self.rows.array(active, np.int64), 0])
        is_far = (self.gap[active] > self.objective[active]) & (self.steps[active] >= _MANY)
        return self.sets.few(active, scores, is_far)

    def _move_by_sets(self, problems: np.ndarray) -> None:
        """Go towards the optimum on the working set as far as the objective falls."""
        assert isinstance(self.sets, WorkingSets)  # noqa: S101 - for type checkers
        assert isinstance(self.loss, SquaredHinge)  # noqa: S101 - for type checkers
        which = self.rows.array(problems, np.int64)
        loss, row_weights = self.loss.select(which), self.row_weights[:, which]
        weights, offsets, scores = self.weights[:, which], self.offsets[:, which], self.scores[:, which]
        aim, aim_u = self.sets.optima(problems, to_numpy(scores[:, :, 0]))
        direction = self.rows.array(aim)[:, :, None] - weights
        direction_u = self.rows.array(aim_u)[None, :, None] - offsets
        change = self._products(direction, which) + self.unit * direction_u
        self.sets.take_in(problems, to_numpy((scores + change)[:, :, 0]))
        slope = _dot(weights, direction) + self.penalty * _dot(offsets, direction_u)
        bend = _dot(direction, direction) + self.penalty * _dot(direction_u, direction_u)
        stretch = loss.lowest(scores, change, row_weights, slope, bend)[None, :, None]
        self.weights[:, which], self.offsets[:, which] = (
            weights + stretch * direction,
            offsets + stretch * direction_u,
        )
        self.scores[:, which] = scores + stretch * change

    def _adopt(self, active: np.ndarray) -> None:
        """Start from another problem of the fold, scaled, wherever that has a lower objective."""
        assert isinstance(self.loss, SquaredHinge)  # noqa: S101 - for type checkers
        found = []
        for problem in active:
            others = np.flatnonzero((self.fold == self.fold[problem]) & (self.steps > 0))
            which = self.rows.array(others, np.int64)
            own = self.rows.array(np.full(len(others), problem), np.int64)
            loss, row_weights, scores = self.loss.select(own), self.row_weights[:, own], self.scores[:, which]
            weights, offsets = self.weights[:, which], self.offsets[:, which]
            size = _dot(weights, weights) + self.penalty * _dot(offsets, offsets)
            length = loss.lowest(self.xp.zeros_like(scores), scores, row_weights, 0.0 * size, size)
            length[others == problem] = 1.0
            reached = 0.5 * size * length**2 + loss.value(scores * length[None, :, None], row_weights)
            best = int(reached.argmin())
            if others[best] != problem:
                found.append((problem, others[best], float(length[best])))
        if found:
            to, source, length = map(np.array, zip(*found, strict=True))
            to, source = self.rows.array(to, np.int64), self.rows.array(source, np.int64)
            stretch = self.rows.array(length)[None, :, None]
            for values in (self.weights, self.offsets, self.scores):
                values[:, to] = values[:, source] * stretch

    def _newton_direction(self, which: Any, gradient: Any, gradient_u: Any, aim: Any) -> tuple[Any, Any]:
        """Preconditioned conjugate gradients; each problem leaves the block when its residual is small."""
        loss, row_weights = self.loss.select(which), self.row_weights[:, which]
        curvature = loss.curvature(self.scores[:, which], row_weights)
        diagonal = loss.diagonal(curvature, row_weights).sum(axis=0)[None]
        x, x_u = self.xp.zeros_like(gradient), self.xp.zeros_like(gradient_u)
        live = self.rows.array(np.arange(len(which)), np.int64)
        step = Curvature(
            self,
            self.inverse_scale[:, which],
            self.mean[:, which],
            loss,
            row_weights,
            curvature,
            diagonal,
        )
        residual, residual_u = -gradient, -gradient_u
        goal = self.xp.maximum(_FORCING * _length(residual, residual_u), 0.5 * aim)
        z, z_u = step.precondition(residual, residual_u)
        p, p_u = z, z_u
        fit = _dot(residual, z) + _dot(residual_u, z_u)
        for _ in range(_MAX_CG):
            bent, bent_u = step.curve(p, p_u)
            rate = (fit / (_dot(p, bent) + _dot(p_u, bent_u)))[None, :, None]
            x[:, live] += rate * p
            x_u[:, live] += rate * p_u
            residual, residual_u = residual - rate * bent, residual_u - rate * bent_u
            open_ = to_numpy(_length(residual, residual_u) > goal)
            if not open_.any():
                break
            if not open_.all():
                keep = self.rows.array(np.flatnonzero(open_), np.int64)
                live, goal, fit, step = live[keep], goal[keep], fit[keep], step.select(keep)
                residual, residual_u = residual[:, keep], residual_u[:, keep]
                p, p_u = p[:, keep], p_u[:, keep]
            z, z_u = step.precondition(residual, residual_u)
            next_fit = _dot(residual, z) + _dot(residual_u, z_u)
            ratio = (next_fit / fit)[None, :, None]
            p, p_u, fit = z + ratio * p, z_u + ratio * p_u, next_fit
        return x, x_u

    def _products(self, vectors: Any, which: Any) -> Any:
        """Standardised rows times vectors of shape (d, p, K), in float64: shape (n, p, K)."""
        scaled = vectors * self.inverse_scale[:, which]
        flat = scaled.reshape(scaled.shape[0], -1)
        raw = self.rows.multiply(flat).reshape(-1, *scaled.shape[1:])
        return raw - (self.mean[:, which] * scaled).sum(axis=0)[None]

    def _adjoint(self, slopes: Any, which: Any) -> Any:
        """Transposed standardised rows times slopes of shape (n, p, K), in float64: shape (d, p, K)."""
        raw = self.rows.multiply_transposed(slopes.reshape(slopes.shape[0], -1))
        raw = raw.reshape(-1, *slopes.shape[1:])
        return self.inverse_scale[:, which] * (raw - self.mean[:, which] * slopes.sum(axis=0)[None])

    def _settle_offsets(self, which: Any) -> None:
        """Bring unpenalised intercepts to their optimum for the weights as they are (Newton, K by K)."""
        loss, row_weights = self.loss.select(which), self.row_weights[:, which]
        total = row_weights.sum(axis=(0, 2))
        scores, moved = self.scores[:, which], self.xp.zeros_like(self.offsets[:, which])
        for _ in range(_MAX_SETTLING):
            slope = loss.slopes(scores, row_weights).sum(axis=0)
            if bool((abs(slope).sum(axis=1) <= 1e-12 * total).all()):
                break
            bend = loss.offset_bend(loss.curvature(scores, row_weights), row_weights)
            change = -self.xp.linalg.solve(bend, slope[:, :, None])[None, :, :, 0]
            change = change.clip(-_LONGEST_SETTLING_STEP, _LONGEST_SETTLING_STEP)
            scores, moved = scores + change, moved + change
        self.scores[:, which] = scores
        self.offsets[:, which] += moved / self.unit


def _dot(left: Any, right: Any) -> Any:
    return (left * right).sum(axis=(0, 2))


def _length(vector: Any, offset: Any) -> Any:
    return (_dot(vector, vector) + _dot(offset, offset)) ** 0.5
