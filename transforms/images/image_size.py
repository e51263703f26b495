"""Images that are too small or too elongated."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns import reasons as r


def size_reasons(
    width: pa.Array, height: pa.Array, *, min_side: int, max_aspect: float
) -> pa.StringArray:
    """Why each image is unusable by its size, or null.

    Args:
      width, height: int32[n], px; null where unknown, which is no reason here.
      min_side: px; the shorter side must be larger than this.
      max_aspect: longer side / shorter side must be smaller than this.

    Returns:
      string[n]: "too_small", else "too_elongated", else null.

    Source: ALIGN (Jia et al., 2021), section 3.
    """
    shorter = pc.min_element_wise(width, height, skip_nulls=False)
    longer = pc.max_element_wise(width, height, skip_nulls=False)
    too_small = pc.less_equal(shorter, min_side)
    too_elongated = pc.greater_equal(longer, pc.multiply(shorter.cast(pa.float64()), max_aspect))
    faults = pc.make_struct(pc.fill_null(too_small, False), pc.fill_null(too_elongated, False))
    return pc.case_when(faults, r.TOO_SMALL, r.TOO_ELONGATED)
