"""Where any pretrained network is cut for maps of evidence: after the last maps of its convolutions."""

import copy

import torch
from torch import nn

from haemo.models.evidence.maps import Grid, grid_of
from haemo.models.networks.pretrained import PretrainedExtractor, UpTo

__all__ = ["cut_in_two"]

# What may stand between the last maps and the embedding, besides what has no weights: it takes each map for
# itself or sums over all places. Attention, which moves evidence from place to place, may not.
_PLAIN = (nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


def cut_in_two(extractor: PretrainedExtractor) -> tuple[nn.Module, nn.Module, Grid | None]:
    """Cut a network after the last maps of its convolutions.

    Parameters
    ----------
    extractor : PretrainedExtractor
        It is left as it is.

    Returns
    -------
    below, above : Module
        From normalised images to the maps, and from these to the layer's activations. Where there is no such
        cut, everything is in `below`.
    grid : Grid or None
        Where the maps lie on the plane; None where the network cannot be cut.
    """
    network, layer, size = extractor.reference(), extractor.layer, extractor.size
    found = _last_maps(network, layer, size)
    if found is not None:
        name, grid = found
        below = UpTo(copy.deepcopy(network), name)
        above = nn.Identity() if name == layer else _From(copy.deepcopy(network), name, layer, size)
        if _joins(below, above, UpTo(copy.deepcopy(network), layer), size):
            return below, above, grid
    return UpTo(network, layer), nn.Identity(), None


class _From(nn.Module):
    """A network from the maps of one of its modules up to a layer.

    Parameters
    ----------
    network : Module
    maps : str
        Name of the module whose output is given.
    layer : str
    size : int
        Side of the images.
    """

    def __init__(self, network: nn.Module, maps: str, layer: str, size: int):
        super().__init__()
        self.upto = UpTo(network, layer)
        self.maps = maps
        self.size = size

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the network on one black image, and put `maps` (n, channels, height, width) in its way."""
        # A copy: what follows may work in place, and gradients by `maps` are wanted.
        replaced = self.upto.network.get_submodule(self.maps).register_forward_hook(lambda *_: maps.clone())
        try:
            return self.upto(maps.new_zeros(1, 3, self.size, self.size))
        finally:
            replaced.remove()


def _last_maps(network: nn.Module, layer: str, size: int) -> tuple[str, Grid] | None:
    """Name of the module that gives the last maps, and where these lie; None where there are none to use."""
    finished: list[tuple[str, nn.Module, torch.Size, torch.Size]] = []
    hooks = []

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if inputs and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
                finished.append((name, module, inputs[0].shape, output.shape))

        return hook

    for name, module in network.named_modules():
        if name:
            hooks.append(module.register_forward_hook(note(name)))
    until = UpTo(network, layer)
    with torch.inference_mode():
        until(torch.zeros(1, 3, size, size))
    until.release()
    for hook in hooks:
        hook.remove()
    path, side, place = [], size, None
    for number, (_, module, given, gives) in enumerate(finished):
        # On a shortcut around others the input is larger than the maps by now; it leads to the same places.
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and given[-1] == side:
            path.append(module)
            side = gives[-1]
            if isinstance(module, nn.Conv2d):
                place = number
                upto_here = list(path)
    if place is None:
        return None
    side = finished[place][3][-1]
    last = max(
        number
        for number, (*_, gives) in enumerate(finished)
        if number >= place and len(gives) == 4 and tuple(gives[-2:]) == (side, side)
    )
    weighted = [one for _, one, *_ in finished[last + 1 :] if list(one.parameters(recurse=False))]
    if side == 1 or not all(isinstance(one, _PLAIN) for one in weighted):
        return None
    return finished[last][0], grid_of(upto_here)


def _joins(below: nn.Module, above: nn.Module, whole: nn.Module, size: int) -> bool:
    """Whether the two parts give what the whole gives: no other way leads around the maps."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            parts = above(below(images))
        except RuntimeError:
            return False
        return torch.allclose(parts, whole(images), rtol=1e-3, atol=1e-5)
