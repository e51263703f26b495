"""Fetches a list by Daft: downloads, decodes, filters by size, writes Parquet. A side of fetch.py.

Daft is not a requirement of this project: `uv pip install --python .venv/bin/python daft`.
"""

import json
import sys
from pathlib import Path


def main(listed: str, out: str, connections: str) -> None:
    import daft
    from daft.functions import decode_image, download, image_height, image_width

    rows = daft.read_parquet(listed)
    body = download(daft.col("url"), max_connections=int(connections), on_error="null")
    rows = rows.with_column("body", body)
    rows = rows.with_column("image", decode_image(daft.col("body"), on_error="null"))
    width, height = image_width(daft.col("image")), image_height(daft.col("image"))
    rows = rows.where(daft.col("image").not_null() & (width >= 200) & (height >= 200))
    rows.select("url", "caption", "body").write_parquet(out)
    kept = daft.read_parquet(f"{out}/*.parquet").count_rows()
    Path(out, "00000_stats.json").write_text(json.dumps({"successes": kept}))


if __name__ == "__main__":
    main(*sys.argv[1:])
