"""The figures of scale.py as a Markdown table, and what follows from them for ten million points."""

from __future__ import annotations

from math import log

TARGET = 10_000_000
HEADER = (
    "points",
    "optimized",
    "indexed",
    "took",
    "peak memory meanwhile",
    "query p50 / p99",
    "filtered p50 / p99",
    "recall@10",
    "filtered recall@10",
    "memory (without files)",
    "disk",
    "reopen",
)

Stages = dict[str, dict[str, float]]


def report(found: dict[int, Stages]) -> str:
    """The table of all sizes, then the arithmetic if there are two sizes to draw a line through."""
    lines = [_line(HEADER), _line(["---:"] * len(HEADER))]
    for count, stages in found.items():
        lines.append(_row(count, "no", stages["upload"], stages["before"]))
        lines.append(_row(count, "yes", stages["optimize"], stages["after"]))
    if len(found) > 1:
        lines += ["", *_extrapolated(found)]
    return "\n".join(lines)


def _row(count: int, optimized: str, work: dict[str, float], searched: dict[str, float]) -> str:
    return _line(
        [
            f"{count:,}",
            optimized,
            f"{searched['indexed']:,.0f}",
            f"{work['seconds']:.1f} s",
            _megabytes(work["peak"]),
            f"{searched['all p50']:.2f} / {searched['all p99']:.2f} ms",
            f"{searched['group p50']:.2f} / {searched['group p99']:.2f} ms",
            f"{searched['all recall']:.3f}",
            f"{searched['group recall']:.3f}",
            f"{_megabytes(searched['resident'])} ({_megabytes(searched['anonymous'])})",
            _megabytes(searched["disk"]),
            f"{searched['reopen']:.0f} ms",
        ]
    )


def _extrapolated(found: dict[int, Stages]) -> list[str]:
    """From the line through the two largest sizes; each with its arithmetic, so that it can be judged."""
    (small, low), (large, high) = sorted(found.items())[-2:]

    def linear(name: str, stage: str, figure: str, unit: str, scale: float, scaled: str) -> str:
        slope = (high[stage][figure] - low[stage][figure]) / (large - small)
        start = high[stage][figure] - slope * large
        result = (start + slope * TARGET) / scale
        return f"- {name}: {start:,.3g} {unit} + {TARGET:,} x {slope:,.4g} {unit} = **{result:,.3g} {scaled}**"

    after = high["after"]
    built = high["optimize"]["seconds"] * TARGET * log(TARGET) / (large * log(large))
    walked = after["all p50"] * log(TARGET) / log(large)
    return [
        f"At {TARGET:,} points, by the line through {small:,} and {large:,}:",
        "",
        linear("disk, optimized", "after", "disk", "bytes", 1e9, "GB"),
        linear("memory, optimized, searched all over", "after", "resident", "bytes", 1e9, "GB"),
        linear("of it not pages of files", "after", "anonymous", "bytes", 1e9, "GB"),
        linear("peak memory of optimize", "optimize", "peak", "bytes", 1e9, "GB"),
        linear("upload", "upload", "seconds", "s", 60, "minutes"),
        f"- optimize, as n log n: {high['optimize']['seconds']:.4g} s x {TARGET / large:.4g} x "
        f"{log(TARGET) / log(large):.4g} = **{built / 3600:,.3g} hours**, all threads of the process held up",
        linear("query p50 without optimize, a scan", "before", "all p50", "ms", 1e3, "s"),
        f"- query p50 optimized, as log n: {after['all p50']:.3g} ms x {log(TARGET) / log(large):.4g} = "
        f"**{walked:.3g} ms**, while all that it reads is in memory",
        linear("filtered p50, one in a hundred", "after", "group p50", "ms", 1, "ms"),
    ]


def _megabytes(number: float) -> str:
    return f"{number / 1e6:,.0f} MB"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
