"""Heads of scikit-learn, solved until nothing is left to gain: what a solver of ours may be held to."""

from sklearn.pipeline import Pipeline

from haemo.models.heads.spec import HeadSpec

__all__ = ["exact_head", "solved_to_the_end"]


def exact_head(name: str, **parameters: float) -> Pipeline:
    """An unfitted head ``svm`` or ``softmax``, at a tolerance that makes it an oracle."""
    return solved_to_the_end(HeadSpec(name).build(**parameters))


def solved_to_the_end(head: Pipeline) -> Pipeline:
    """Give an SVM, linear or with a kernel, or a softmax a tolerance that makes it an oracle.

    At its default tolerance scikit-learn stops where its scores are right to two or three digits, and where
    exactly depends on the processor; ranks and decisions made from such scores are not those of the optimum.
    """
    return head.set_params(head__tol=1e-9, head__max_iter=10**6)
