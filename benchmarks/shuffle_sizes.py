"""The sizes of what a run of our command shuffles: its largest element and its largest group.

  python benchmarks/shuffle_sizes.py REPORT.json FLAGS-OF-BEAM_RUNNER…

Runs the command in this process with every block inline, as Flink and Dataflow get them, and looks
at the bytes in the buffers of Beam's in-process runner. It takes much memory and time; for those
measure another run. With or without --text_only it stops after the text plane: the image plane
shuffles numbers of shards alone. It prints what crosses 100 kB and more, all together, and a pair;
what is written of each exchange:

- `kind`: "group" for a GroupByKey, "hand-over" for what goes from one fused stage to the next or to
  a side input; `name`: Beam's name of the transform or of the collection.
- `elements`, `bytes`: how many, and all of them together, with their keys; `groups`: how many keys.
- `largest_element`, `largest_group`: bytes; a group is all that has one key, and a hand-over none.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from apache_beam.coders.coder_impl import create_InputStream  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import execution  # noqa: E402
from results import print_table  # noqa: E402

import alignset.pipeline.run  # noqa: E402
import beam_runner  # noqa: E402
from alignset.transforms.storage.blocks import Blocks  # noqa: E402

LEAST_SHOWN = 100_000  # bytes
Exchange = tuple[str, str]


class ShuffleSizes:
    """Counts what is appended to the runner's buffers, once it is installed."""

    def __init__(self) -> None:
        self.elements: Counter[Exchange] = Counter()
        self.bytes: Counter[Exchange] = Counter()
        self.largest: Counter[Exchange] = Counter()
        self.groups: Counter[tuple[Exchange, bytes]] = Counter()

    def install(self) -> None:
        """Patches Beam and our blocks, for the rest of this process."""
        alignset.pipeline.run.Blocks = lambda folder: Blocks()
        get_buffer = execution.BundleContextManager.get_buffer

        def named(manager: Any, buffer_id: bytes, transform_id: str) -> Any:
            buffer = get_buffer(manager, buffer_id, transform_id)
            components = manager.execution_context.pipeline_components
            kind, name = execution.split_buffer_id(buffer_id)
            if kind == "group":
                buffer.exchange = ("group", components.transforms[name].unique_name)
            elif kind == "materialize":
                label = components.pcollections[name].unique_name or name
                buffer.exchange = ("hand-over", label)
            return buffer

        execution.BundleContextManager.get_buffer = named
        self._watch(execution.GroupingBuffer, _key_coder)
        self._watch(execution.ListBuffer, lambda buffer: None)

    def _watch(self, buffers: Any, key_coder: Any) -> None:
        append = buffers.append

        def watched(buffer: Any, data: bytes) -> None:
            if hasattr(buffer, "exchange"):
                self._add(buffer.exchange, data, _element_coder(buffer), key_coder(buffer))
            append(buffer, data)

        buffers.append = watched

    def _add(self, exchange: Exchange, data: bytes, coder: Any, keys: Any) -> None:
        stream = create_InputStream(data)
        while before := stream.size():
            element = coder.decode_from_stream(stream, True)
            size = before - stream.size()
            self.elements[exchange] += 1
            self.bytes[exchange] += size
            self.largest[exchange] = max(self.largest[exchange], size)
            if keys is not None:
                self.groups[exchange, keys.encode(element.value[0])] += size

    def report(self) -> list[dict[str, Any]]:
        """One row for each exchange, the largest element first."""
        groups: Counter[Exchange] = Counter()
        largest_groups: Counter[Exchange] = Counter()
        for (exchange, _), size in self.groups.items():
            groups[exchange] += 1
            largest_groups[exchange] = max(largest_groups[exchange], size)
        return [
            {
                "kind": exchange[0],
                "name": exchange[1],
                "elements": self.elements[exchange],
                "bytes": self.bytes[exchange],
                "largest_element": largest,
                "groups": groups[exchange],
                "largest_group": largest_groups[exchange],
            }
            for exchange, largest in self.largest.most_common()
        ]


def _element_coder(buffer: Any) -> Any:
    if isinstance(buffer, execution.GroupingBuffer):
        return buffer._pre_grouped_coder.get_impl()
    return buffer._coder_impl


def _key_coder(buffer: Any) -> Any:
    return buffer._key_coder.get_impl()


class _TextPlaneIsDone(BaseException):  # no Exception, which the command would report
    pass


def _stop(*_: Any) -> None:
    raise _TextPlaneIsDone


def _pairs_read(flags: list[str]) -> int:
    (output,) = (flag.partition("=")[2] for flag in flags if flag.startswith("--output="))
    for name in ("funnel.json", "_temporary/text.json"):
        if (path := Path(output) / name).exists():
            document = json.loads(path.read_text())
            return document["read"]["rows"] if "read" in document else document["steps"][0]["seen"]
    raise FileNotFoundError(f"the run left no counts in {output}")


def print_exchanges(exchanges: list[dict[str, Any]], pairs: int) -> None:
    """Prints what crosses LEAST_SHOWN bytes and more, the most first, in bytes a pair."""
    total = sum(exchange["bytes"] for exchange in exchanges if exchange["kind"] == "group")
    rows = [
        {
            "exchange": f"{exchange['kind']} {exchange['name'][:60]}",
            "MB": exchange["bytes"] / 1e6,
            "bytes a pair": exchange["bytes"] / pairs,
            "elements": exchange["elements"],
            "largest kB": exchange["largest_element"] / 1e3,
            "groups": exchange["groups"],
            "largest group MB": exchange["largest_group"] / 1e6,
        }
        for exchange in sorted(exchanges, key=lambda exchange: -exchange["bytes"])
        if exchange["bytes"] >= LEAST_SHOWN
    ]
    if rows:
        print_table(rows)
    print(f"all groups: {total / 1e6:,.0f} MB, {total / pairs:.1f} bytes a pair, {pairs:,} pairs")


def main(report: str, flags: list[str]) -> int:
    sizes = ShuffleSizes()
    sizes.install()
    alignset.pipeline.run.curate_images = _stop
    try:
        code = beam_runner.main(flags)
    except _TextPlaneIsDone:
        code = 0
    exchanges = sizes.report()
    Path(report).write_text(json.dumps(exchanges))
    if code == 0:
        print_exchanges(exchanges, _pairs_read(flags))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
