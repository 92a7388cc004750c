"""Convolutions whose weights are laid out once, against the plain layers."""

import numpy as np
import pytest
import torch
from torch import nn

from haemo.models.networks import packed as module
from haemo.models.networks.blood_cells import BloodCells, cells_of
from haemo.models.networks.packed import PackedConvolution, is_laid_out, packed
from haemo.models.weights.builtin import builtin_state


def layers(dtype=torch.float32):
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 48, 3, padding=1, groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(48, 16, 1),
    )
    return made.to(dtype).to(memory_format=torch.channels_last).requires_grad_(False)


def images(count, dtype=torch.float32):
    drawn = torch.rand(count, 3, 61, 61, generator=torch.Generator().manual_seed(1))
    return drawn.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.numerical
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_give_what_the_layers_give(dtype):
    plain = layers(dtype)
    quick = packed(plain, images(2, dtype))
    for count in (2, 1, 5):  # also other sizes than they were packed for
        expected, found = plain(images(count, dtype)), quick(images(count, dtype))
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    kinds = [type(layer) for layer in quick]
    one = [PackedConvolution, nn.Identity] if is_laid_out(dtype) else [nn.Conv2d, nn.ReLU]
    assert kinds == [*one, nn.MaxPool2d, *one, nn.Conv2d]  # the last has no ReLU behind it
    assert [type(layer) for layer in plain][:2] == [nn.Conv2d, nn.ReLU]


def test_without_the_operation_layers_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(module.torch.backends.mkldnn, "is_available", lambda: False)
    plain = layers()
    assert list(packed(plain, images(1))) == list(plain)


@pytest.mark.numerical
def test_cells_of_the_packed_trunk_are_the_same_bits():
    """Trees were learned on what the plain trunk says."""
    plain = BloodCells.of(builtin_state()).to(memory_format=torch.channels_last)
    quick = plain.packed()
    planes = np.random.default_rng(0).integers(0, 256, (3, 227, 227), dtype=np.uint8)
    planes[2] = 0
    for plane in planes:
        np.testing.assert_array_equal(cells_of(quick, plane[None]), cells_of(plain, plane[None]))
    assert any(isinstance(layer, PackedConvolution) for layer in quick.features)
    assert not any(isinstance(layer, PackedConvolution) for layer in plain.features)
