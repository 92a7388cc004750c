"""conv1 of AlexNet for slices: normalisation, and three equal channels folded into one, exactly.

On a gray plane g in 0..255, replicated to three channels and normalised, conv1 computes

    sum_c W_c * ((g / 255 - mean_c) / std_c) + b
        = (sum_c W_c / (255 std_c)) * g + (b - sum_c W_c * mean_c / std_c)

where the second term does not depend on g. It is one number per channel except on the border, where the
zero padding, applied after normalisation, takes part of the kernel's weights out; there it is corrected.

Of planes with three channels, one a window, the first is taken for that gray plane g; in the other two what
they differ from it is left over, which conv1 takes without normalisation:

    + sum_c W_c / (255 std_c) * (g_c - g)

Where all three are equal nothing is added, and no bit is another.

The 11 x 11 kernel with stride 4 is further written as a 3 x 3 kernel with stride 1 over 4 x 4 blocks of
pixels as 16 channels (a 12 x 12 kernel whose last row and column are zero), which suits matrix units.
"""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "GrayConv"]

# Of RGB values in 0..1, as torchvision's ImageNet weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_KERNEL, _STRIDE, _PADDING = 11, 4, 2
_BLOCKS = 3  # blocks of `_STRIDE` pixels that a kernel touches, in each direction


class GrayConv(nn.Module):
    """Planes of one or three channels to conv1's output before its ReLU.

    Parameters
    ----------
    weight : Tensor of shape (out, 3, 11, 11)
    bias : Tensor of shape (out,)
        conv1 as trained on normalised RGB.
    size : int
        Height and width of a plane.
    dtype : torch.dtype
        To compute in. Gray levels 0..255 and their differences are exact in bfloat16 too; the folding itself
        is done in float64.
    memory_format : torch.memory_format
        Of the output.
    mean, std : tuple of float
        The normalisation, per channel of RGB values in 0..1.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    weight_of_others: torch.Tensor
    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        size: int,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.channels_last,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        super().__init__()
        self.size = size
        self.memory_format = memory_format
        self.blocks = (size + 2 * _PADDING - _KERNEL) // _STRIDE + _BLOCKS
        scaled = weight.double() / torch.tensor(std, dtype=torch.float64).view(1, 3, 1, 1)
        gray = scaled.sum(dim=1) / 255
        offset = (scaled * torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)).sum(dim=1)
        constant = bias.double() - offset.sum(dim=(1, 2))
        inside = torch.ones(1, 1, size, size, dtype=torch.float64)
        lost = functional.conv2d(inside, offset[:, None], stride=_STRIDE, padding=_PADDING)
        border = offset.sum(dim=(1, 2)).view(1, -1, 1, 1) - lost
        self.register_buffer(
            "weight", _by_blocks(gray).to(dtype).contiguous(memory_format=memory_format), persistent=False
        )
        self.register_buffer("bias", constant.to(dtype), persistent=False)
        others = torch.cat([_by_blocks(scaled[:, channel] / 255) for channel in (1, 2)], dim=1)
        self.register_buffer(
            "weight_of_others", others.to(dtype).contiguous(memory_format=memory_format), persistent=False
        )
        for name, part in (
            ("top", border[:, :, :1]),
            ("bottom", border[:, :, -1:]),
            ("left", border[:, :, 1:-1, :1]),
            ("right", border[:, :, 1:-1, -1:]),
        ):
            self.register_buffer(
                name, part.to(dtype).contiguous(memory_format=memory_format), persistent=False
            )

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Convolve uint8 planes (batch, size, size) or (batch, 3, size, size).

        Returns
        -------
        Tensor of shape (batch, out, height, width)
        """
        gray = self._in_blocks(planes if planes.ndim == 3 else planes[:, 0])
        output = functional.conv2d(gray, self.weight, self.bias)
        output[:, :, :1] += self.top
        output[:, :, -1:] += self.bottom
        output[:, :, 1:-1, :1] += self.left
        output[:, :, 1:-1, -1:] += self.right
        if planes.ndim == 4:
            others = torch.cat([self._in_blocks(planes[:, channel]) - gray for channel in (1, 2)], dim=1)
            output += functional.conv2d(others, self.weight_of_others)
        return output

    def _in_blocks(self, planes: torch.Tensor) -> torch.Tensor:
        """Pad and cut planes into blocks: (batch, 16, blocks, blocks), channel = place within the block."""
        side = self.blocks * _STRIDE
        padded = planes.new_zeros(len(planes), side, side)
        padded[:, _PADDING : _PADDING + self.size, _PADDING : _PADDING + self.size] = planes
        # Four pixels beside each other are moved as one word.
        words = padded.view(torch.int32).view(-1, self.blocks, _STRIDE, self.blocks).transpose(2, 3)
        cut = words.contiguous().view(torch.uint8).to(self.weight.dtype)
        return cut.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)


def _by_blocks(kernel: torch.Tensor) -> torch.Tensor:
    """Rewrite (out, 11, 11) with stride 4 as (out, 16, 3, 3) over blocks."""
    surplus = _BLOCKS * _STRIDE - _KERNEL
    padded = functional.pad(kernel, (0, surplus, 0, surplus))
    cut = padded.view(-1, _BLOCKS, _STRIDE, _BLOCKS, _STRIDE).permute(0, 2, 4, 1, 3)
    return cut.reshape(-1, _STRIDE * _STRIDE, _BLOCKS, _BLOCKS)
