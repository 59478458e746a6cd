"""Images of 16 bits in 8 bits: PIL's own conversion makes them white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from freezekit.errors import DataError

OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
FORMATS_OF_16_BITS = ("PNG", "PPM")
"""Their images have the mode "I" only if they are of 16 bits."""


def in_8_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits in 8 bits: each value divided by 256. Any other image stays.

    An image of integers (mode "I") is of 16 bits if one of its values is above 255, or if its file
    is a PNG or PPM.

    Raises:
        DataError: It has floating-point numbers (mode "F"), whose range a file does not tell, or
            integers that are not of 16 bits.

    Example:
        >>> in_8_bits(Image.new("I;16", (4, 4), 0x8001)).getpixel((0, 0))
        128
    """
    if image.mode == "F":
        raise DataError("numbers are floating-point, of unknown range; save 8 or 16 bits")
    if image.mode not in ("I", *OF_16_BITS):
        return image
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise DataError(f"numbers are from {low} to {high}; save 8 or 16 bits")
    if image.mode == "I" and high <= 0xFF and image.format not in FORMATS_OF_16_BITS:
        return image
    return Image.fromarray((values >> 8).astype(np.uint8))
