"""PNG files of our own: what other decoders read of them is what was written."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage.io import imread

from haemo.pipeline.segmenting.png import png_of


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((7, 5), np.uint8), ((1, 1), np.uint8), ((33, 21), np.uint16), ((9, 4, 3), np.uint8)],
)
def test_pillow_reads_what_was_written(shape, kind):
    picture = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    image = Image.open(io.BytesIO(png_of(picture)))
    image.verify()  # of every chunk
    again = np.asarray(Image.open(io.BytesIO(png_of(picture))))
    np.testing.assert_array_equal(again, picture)
    np.testing.assert_array_equal(imread(io.BytesIO(png_of(picture[::-1]))), picture[::-1])


def test_a_picture_of_much_the_same_is_small():
    picture = np.zeros((512, 512), np.uint8)
    picture[200:260, 100:180] = 255
    assert len(png_of(picture)) < 4000
