"""Maps tested without masks: what the score does when hot places go, and the map when the head is another."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from haemo.models.evidence.explain import ExplainedModel

__all__ = ["perturbation", "rank_correlation"]

_STEPS = 11


def perturbation(
    network: ExplainedModel, planes: np.ndarray, targets: Sequence[str], method: str, seed: int
) -> dict[str, Any]:
    """Deletion and insertion: how the score moves when the hottest places are blurred, or alone kept sharp.

    After Petsiuk et al., BMVC 2018, with a Gaussian blur of a tenth of the side in place of black. A good map
    makes the score fall early (a low area under the deletion curve) and rise early (a high one under
    insertion). The same is done in a random order of 16-pixel tiles.

    Parameters
    ----------
    network : ExplainedModel
    planes : ndarray of shape (n, size, size) or (n, 3, size, size), uint8
    targets : sequence of n str
        The class whose score is followed, for each plane.
    method : str
    seed : int

    Returns
    -------
    dict
        ``share`` of the plane that was changed, and the mean score over slices at each, for ``deletion``,
        ``insertion`` and both in random order; ``area`` of each, as the mean score over the shares.
    """
    from scipy import ndimage

    random = np.random.default_rng(seed)
    size = network.size
    shares = np.linspace(0, 1, _STEPS)
    totals = {
        name: np.zeros(_STEPS) for name in ("deletion", "insertion", "random_deletion", "random_insertion")
    }
    maps = network.maps(planes, method, targets)
    for plane, target, own in zip(planes, targets, maps, strict=True):
        blurred = ndimage.gaussian_filter(plane.astype(np.float32), size / 10, axes=(-2, -1))
        blurred = np.rint(blurred).astype(np.uint8)
        tiles = random.random((-(-size // 16), -(-size // 16)))
        noise = np.kron(tiles, np.ones((16, 16)))[:size, :size]
        for prefix, order in (("", network.on_slice(own, size, size)), ("random_", noise)):
            rank = np.empty(size * size)
            rank[np.argsort(-order, axis=None, kind="stable")] = np.arange(size * size) / (size * size)
            first = rank.reshape(size, size)[None] < shares[:, None, None]
            if plane.ndim == 3:  # all channels at once
                first = first[:, None]
            totals[prefix + "deletion"] += network.scores_for(np.where(first, blurred, plane), target)
            totals[prefix + "insertion"] += network.scores_for(np.where(first, plane, blurred), target)
    means = {name: total / len(planes) for name, total in totals.items()}
    return {
        "slices": len(planes),
        "share": shares.round(2).tolist(),
        **{name: values.tolist() for name, values in means.items()},
        "area": {name: float(values.mean()) for name, values in means.items()},
    }


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each pair of maps (n, height, width): (n,); 0 where one of them is flat."""
    from scipy.stats import rankdata

    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (one, other)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    scale = np.prod([np.linalg.norm(rank, axis=1) for rank in centred], axis=0)
    return np.divide((centred[0] * centred[1]).sum(axis=1), scale, out=np.zeros(len(one)), where=scale > 0)
