"""Heads in ONNX: embeddings to scores, and scores to probabilities, in float64."""

from typing import Any

import numpy as np

from haemo.errors import BadSettings
from haemo.pipeline.exporting.graph import Graph

__all__ = ["write_probabilities", "write_scores"]


def write_scores(graph: Graph, embeddings: str, head: Any) -> str:
    """Write the decision function of a fitted head; gives scores (n, 1) for two classes, else (n, classes).

    Parameters
    ----------
    graph : Graph
    embeddings : str
        float32, (n, dimension).
    head : CalibratedHead

    Raises
    ------
    BadSettings
        If a step of it cannot be written; it is named.
    """
    estimator = head.estimator_
    chain = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    value = graph.cast(embeddings, "float64")
    for step in chain:
        value = _written(graph, value, step)
    return value


def write_probabilities(graph: Graph, scores: str, classes: int, calibrators: list[Any]) -> str:
    """Write what makes probabilities of scores, as `models.heads.calibration.probabilities` does.

    Gives the positive class's (n, 1) for two classes, else (n, classes).
    """
    kinds = {type(one).__name__ for one in calibrators}
    if kinds == {"PriorShift"}:
        log_shares = calibrators[0].log_shares_
        shift = [log_shares[1] - log_shares[0]] if classes == 2 else log_shares
        scores = graph.op("Add", scores, graph.constant(shift))
        calibrators, kinds = [], set()
    if kinds == {"SigmoidCalibrator"}:
        slopes = graph.constant([one.slope_ for one in calibrators])
        intercepts = graph.constant([one.intercept_ for one in calibrators])
        each = graph.op("Sigmoid", graph.op("Add", graph.op("Mul", scores, slopes), intercepts))
    elif kinds == {"IsotonicRegression"}:
        each = _steps(graph, scores, calibrators)
    elif kinds:
        raise BadSettings(f"a head calibrated by {', '.join(sorted(kinds))} cannot be exported")
    elif classes == 2:
        return graph.op("Sigmoid", scores)
    else:
        return graph.op("Softmax", scores, axis=1)
    if classes == 2:
        return each
    total = graph.op("ReduceSum", each, graph.constant([1], "int64"), keepdims=1)
    nothing = graph.op("Equal", total, graph.constant([0.0]))
    share = graph.op("Div", each, graph.op("Where", nothing, graph.constant([1.0]), total))
    return graph.op("Where", nothing, graph.constant([1 / classes]), share)


def _steps(graph: Graph, scores: str, calibrators: list[Any]) -> str:
    """Isotonic regression, linear between its thresholds: a sum of ramps, each of which rises once."""
    columns = []
    for place, one in enumerate(calibrators):
        own = graph.op("Gather", scores, graph.constant([place], "int64"), axis=1)
        x, y = np.asarray(one.X_thresholds_, dtype=float), np.asarray(one.y_thresholds_, dtype=float)
        if len(x) > 1:
            left, width, rise = (
                graph.constant(x[:-1]),
                graph.constant(np.diff(x)),
                graph.constant(np.diff(y)[:, None]),
            )
            ramps = graph.op("Div", graph.op("Sub", own, left), width)
            ramps = graph.op("Clip", ramps, graph.constant(0.0), graph.constant(1.0))
            own = graph.op("Add", graph.op("MatMul", ramps, rise), graph.constant(y[:1]))
        else:
            own = graph.op("Add", graph.op("Mul", own, graph.constant([0.0])), graph.constant(y[:1]))
        columns.append(own)
    return graph.op("Concat", *columns, axis=1)


def _written(graph: Graph, rows: str, step: Any) -> str:
    # By name: importing every estimator of scikit-learn to compare types would cost a second.
    match type(step).__name__:
        case "StandardScaler" | "FlooredScaler":
            if step.with_mean:
                rows = graph.op("Sub", rows, graph.constant(step.mean_))
            return graph.op("Mul", rows, graph.constant(1 / step.scale_)) if step.with_std else rows
        case "Normalizer" if step.norm == "l2":
            length = graph.op("ReduceL2", rows, axes=[1], keepdims=1)
            nothing = graph.op("Equal", length, graph.constant([0.0]))
            return graph.op("Div", rows, graph.op("Where", nothing, graph.constant([1.0]), length))
        case "PCA":
            components = step.components_
            if step.whiten:
                components = components / np.sqrt(step.explained_variance_)[:, None]
            return _linear(graph, rows, components, -step.mean_ @ components.T)
        case "Nystroem":
            degree = 3 if step.degree is None else step.degree
            coef0 = 1 if step.coef0 is None else step.coef0
            gamma = 1 / step.components_.shape[1] if step.gamma is None else step.gamma
            values = _kernel(graph, rows, step.kernel, step.components_, gamma, degree, coef0)
            return graph.op("MatMul", values, graph.constant(step.normalization_.T))
        case "LinearSVC" | "LogisticRegression" | "ScoredLogistic":
            return _linear(graph, rows, step.coef_, step.intercept_)
        case "EarlyStoppingMLP":
            first, last = zip(step.coefs_, step.intercepts_, strict=True)
            hidden = graph.op("Relu", _linear(graph, rows, first[0].T, first[1]))
            return _linear(graph, hidden, last[0].T, last[1])
        case "SVC" if len(step.classes_) == 2:
            values = _kernel(
                graph, rows, step.kernel, step.support_vectors_, step._gamma, step.degree, step.coef0
            )
            return _linear(graph, values, step.dual_coef_, step.intercept_)
        case "SVC":
            raise BadSettings(
                "an SVM with a kernel and more than two classes cannot be exported; softmax can"
            )
        case name:
            raise BadSettings(f"a head with the step {name} cannot be exported; svm, softmax and mlp can")


def _linear(graph: Graph, rows: str, weights: np.ndarray, bias: np.ndarray) -> str:
    product = graph.op("MatMul", rows, graph.constant(np.atleast_2d(weights).T))
    return graph.op("Add", product, graph.constant(np.atleast_1d(bias)))


def _kernel(
    graph: Graph, rows: str, kind: str, points: np.ndarray, gamma: float, degree: float, coef0: float
) -> str:
    products = graph.op("MatMul", rows, graph.constant(np.asarray(points, dtype=np.float64).T))
    if kind == "linear":
        return products
    if kind == "rbf":
        squares = graph.op("ReduceSum", graph.op("Mul", rows, rows), graph.constant([1], "int64"), keepdims=1)
        far = graph.op("Add", squares, graph.constant((np.asarray(points) ** 2).sum(axis=1)))
        far = graph.op("Sub", far, graph.op("Mul", products, graph.constant([2.0])))
        far = graph.op("Max", far, graph.constant([0.0]))
        return graph.op("Exp", graph.op("Mul", far, graph.constant([-float(gamma)])))
    raised = graph.op(
        "Add", graph.op("Mul", products, graph.constant([float(gamma)])), graph.constant([coef0])
    )
    if kind == "poly":
        return graph.op("Pow", raised, graph.constant([float(degree)]))
    if kind == "sigmoid":
        return graph.op("Tanh", raised)
    raise BadSettings(
        f"a head with the kernel {kind!r} cannot be exported; linear, rbf, poly and sigmoid can"
    )
