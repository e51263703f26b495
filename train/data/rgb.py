"""RGB of an image of any mode, as a person sees it."""

import numpy as np
from PIL import Image


def as_seen(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode, as a person sees it: scaled to 8 bits, over white where it is
    transparent. Pillow's own conversion clips 16 bits, so that nearly all is white, and leaves what
    colour a pixel has where nothing of it is to be seen."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.array(image, np.float32)  # [h, w]
        top = values.max(initial=0.0, where=np.isfinite(values))
        wide = image.mode.startswith("I;16")
        values *= 255 / (65_535 if wide or top > 255 else 255 if top > 1 else 1)
        grey = np.nan_to_num(values, copy=False).clip(0, 255).round().astype(np.uint8)
        if wide and "transparency" in image.info:  # a PNG's value that is transparent
            grey[np.array(image) == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
