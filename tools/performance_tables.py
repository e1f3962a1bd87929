"""Writes the tables of docs/performance.md that are made from measured rows, the plot of growth, and README's speed.

python tools/performance_tables.py FILE.json ... [--page FILE.md] [--plot FILE.svg] [--readme FILE.md]; the files are
those of `python -m dse.bench.packs --out`, and a row of a later one replaces that of an earlier one. A table stands
between the lines `<!-- begin NAME -->` and `<!-- end NAME -->`; without rows for it, it stays as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from dse.bench.bench_jobs import UNIT
from dse.bench.contenders import FP4, PLAIN
from dse.bench.gallery_packs import GALLERY, WHOLE
from dse.bench.measurements import number, target
from dse.bench.models import GROWTH
from dse.bench.ratios import RATIO

ROOT = Path(__file__).resolve().parents[1]
Row = Mapping[str, Any]
_PACK = re.compile(r"pack of (?P<width>\d+), (?P<recipe>\w+)(?P<activations>, bf16 activations)?")
_LOSS = re.compile(r"loss (\S+) at step 50")


def rows_of(documents: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The measured rows of all documents, the last of each figure and variant."""
    found = {(row["figure"], row["variant"]): row for one in documents for row in one["rows"] if row["value"]}
    return list(found.values())


def device_of(documents: Sequence[Mapping[str, Any]], figure: str) -> str:
    """The name of the device of the last document that measured a figure; '' where none did."""
    found = [one["device"] for one in documents if any(row["figure"] == figure and row["value"] for row in one["rows"])]
    return found[-1].partition(",")[0] if found else ""


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]


def targets(rows: Sequence[Row]) -> list[str]:
    """Every ratio that has a target: those to compiled programs come first, as they were measured."""
    lines = []
    for row in rows:
        if row["figure"].endswith(RATIO) and row.get("target") is not None:
            said = target(row).removeprefix("target ").replace("MISSED", "missed")
            model, unit = row["figure"].removesuffix(RATIO), row["unit"].replace("model-steps/s", "")
            values = [f"{number(row[name])} {unit}".strip() for name in ("value", "floor")]
            variant = row["variant"].replace("bf16 activations", "BF16")
            lines.append([model, variant, *values, number(row["ratio"]), said])
    return table(("model", "what / against what", "what", "against", "ratio", "target"), lines) if lines else []


def speeds(rows: Sequence[Row]) -> list[str]:
    """Model-steps per second of everything that was measured on the models of the pack benchmark."""
    models = [row["figure"] for row in rows if row["unit"] == "model-steps/s" and row["figure"] not in GROWTH]
    models = [model for model in dict.fromkeys(models) if not model.endswith((RATIO, GALLERY))]
    lines = [
        [model, row["variant"], number(row["value"]), number(row.get("memory")), *(_LOSS.findall(row["note"]) or ["-"])]
        for model in models
        for row in sorted((row for row in rows if row["figure"] == model), key=lambda row: -row["value"])
    ]
    return table(("model", "variant", "model-steps/s", "GiB", "loss at step 50"), lines) if lines else []


def growth(rows: Sequence[Row]) -> list[str]:
    """For every size: the plain program, and each recipe at width one and at its best width."""
    lines = [
        [model.removeprefix("lm-"), program, width, *_hardware(row)]
        for model in GROWTH
        for program, width, row in programs(rows, model)
    ]
    heads = ("lm", "program", "width", "model-steps/s", "tokens/s", "TFLOP/s", "of GEMM rate", "GiB a member")
    return table(heads, lines) if lines else []


def programs(rows: Sequence[Row], model: str) -> Iterator[tuple[str, str, Row]]:
    """(program, width, row) of the rows of one size that the table shows."""
    own = [row for row in rows if row["figure"] == model and row.get("facts")]
    for row in own:
        if row["variant"] == PLAIN:
            yield "plain, compiled BF16", "1", row
    packs: dict[str, list[tuple[int, Row]]] = {}
    for row in own:
        if found := _PACK.fullmatch(row["variant"]):
            packs.setdefault(found["recipe"], []).append((int(found["width"]), row))
    for recipe, measured in packs.items():
        best = max(measured, key=lambda pair: float(pair[1]["value"]))
        narrow = min(measured, key=lambda pair: pair[0])
        for width, row in {pair[0]: pair for pair in (narrow, best)}.values():
            yield recipe, str(width), row


def _hardware(row: Row) -> list[str]:
    facts = row["facts"]
    memory = facts.get("GiB a member")
    share = f"{100 * facts['of GEMM']:.1f} %"
    return [number(row["value"]), number(facts["tokens/s"]), f"{facts['TFLOP/s']:.1f}", share, number(memory)]


def gallery(rows: Sequence[Row]) -> list[str]:
    """Every recipe's own pack, the slowest first, after the pack of all recipes."""
    own = [row for row in rows if row["figure"].endswith(GALLERY)]
    alone = {row["variant"]: row["value"] for row in own if " members" not in row["variant"]}
    lines = []
    for row in own:
        base = next((r for r in own if r["variant"] == row["variant"].replace(WHOLE, "nvfp4")), None)
        if row["variant"].startswith(WHOLE) and base:
            lines.append([row["variant"], number(row["value"]), number(row["value"] / base["value"])])
    if "nvfp4" in alone:
        ordered = sorted(alone.items(), key=lambda pair: pair[1])
        lines += [[name, number(rate), number(rate / alone["nvfp4"])] for name, rate in ordered]
    return table(("pack", "model-steps/s", "of nvfp4 at the same width"), lines) if lines else []


TABLES = {"targets": targets, "speeds": speeds, "growth": growth, "gallery": gallery}


def speed(rows: Sequence[Row], device: str) -> list[str]:
    """README's paragraph: the best pack of nvfp4 against the best compiled program, then the others."""
    rates = {row["variant"]: row["value"] for row in rows if row["figure"] == "gpt128" and row["unit"] == UNIT}
    packs = {name: rate for name, rate in rates.items() if (found := _PACK.fullmatch(name)) and found[2] == "nvfp4"}
    peers = {name: rate for name, rate in rates.items() if name == FP4 or name.endswith("compiled processes")}
    if not packs or not peers:
        return []
    pack, peer = max(packs, key=lambda name: packs[name]), max(peers, key=lambda name: peers[name])
    who = "one process makes" if peer == FP4 else f"{peer.partition(' ')[0]} processes together make"
    width = pack.removeprefix("pack of ").partition(",")[0]
    text = (
        f"On one {device} a pack of {width} small GPTs under `nvfp4` makes {number(packs[pack])} model-steps a second: "
        f"{packs[pack] / peers[peer]:.1f} times what {who} that train the same GPT with NVFP4 fake quantization in "
        "plain torch through `torch.compile`, each step one CUDA graph"
    )
    if "eager" in rates:
        text += f"; one eager trial makes {number(rates['eager'])}"
    grown = {row["variant"]: row["value"] for row in rows if row["figure"] == "lm-60M"}
    best = max((rate for name, rate in grown.items() if ", nvfp4" in name), default=None)
    if best and PLAIN in grown:
        text += (
            f". A step of a 60M model takes {grown[PLAIN] / best:.2f} times as long as in a plain compiled BF16 program"
        )
    return wrap(f"{text} ([docs/performance.md](docs/performance.md)).", 118, break_on_hyphens=False)


def filled(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with the table of a name replaced. Raises ValueError where the page has no place for it."""
    place = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    text = "\n".join(["", *lines, "", ""])
    made, count = place.subn(lambda found: found[1] + text + found[2], page)
    if count != 1:
        raise ValueError(f"the page has {count} places for the table {name!r}")
    return made


def provenance(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the tables were measured with, a line for each file."""
    lines = []
    for one in documents:
        versions = ", ".join(
            f"{name} {one['versions'][name]}" for name in ("torch", "triton") if name in one["versions"]
        )
        command = re.sub(
            r"\S*/(\S*\.json)", r"\1", re.sub(r"\S*dse/bench/packs\.py", "-m dse.bench.packs", one["command"])
        )
        text = f"- `{command}`, {one['device']}, {versions}, {one['date'][:10]}."
        lines += wrap(text, 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines


def plot(rows: Sequence[Row], path: Path) -> None:
    """Two panels over the size: TFLOP/s of the linears at the best width, and memory of a member at width one."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(style="whitegrid", rc={"svg.hashsalt": "dse", "svg.fonttype": "none"})
    figure, (speed_axes, memory_axes) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    series: dict[str, list[tuple[float, Row, Row]]] = {}
    for model in GROWTH:
        shown: dict[str, list[Row]] = {}
        for program, _, row in programs(rows, model):
            shown.setdefault(program, []).append(row)
        for program, found in shown.items():
            size = float(found[0]["facts"]["parameters"])
            series.setdefault(program, []).append((size, found[0], max(found, key=lambda row: float(row["value"]))))
    for program, points in series.items():
        speeds = [(size, best["facts"]["TFLOP/s"]) for size, _, best in points]
        sizes = [
            (size, alone["facts"]["GiB a member"]) for size, alone, _ in points if "GiB a member" in alone["facts"]
        ]
        for axes, line in ((speed_axes, speeds), (memory_axes, sizes)):
            if line:  # a CPU tells no memory
                axes.plot(*zip(*line, strict=True), marker="o", label=program)
                axes.set(xscale="log", yscale="log")
    rate = max(row["facts"]["GEMM TFLOP/s"] for points in series.values() for _, row, _ in points)
    speed_axes.axhline(rate, color="gray", linestyle="--", label="one large BF16 product")
    for axes, title in ((speed_axes, "TFLOP/s of the linears, best width"), (memory_axes, "GiB of one model alone")):
        axes.set(title=title, xlabel="parameters of the linears")
    speed_axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="JSON files of the pack benchmark")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "growth.svg")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    given = parser.parse_args(arguments)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in given.files]
    rows = rows_of(documents)
    page = given.page.read_text(encoding="utf-8")
    made = {name: make(rows) for name, make in TABLES.items()} | {"measured": provenance(documents)}
    if made["growth"]:
        plot(rows, given.plot)
        made["growth"] += ["", f"![TFLOP/s of the linears and memory, by size and program]({given.plot.name})"]
    for name, lines in made.items():
        page = filled(page, name, lines) if lines else page
    given.page.write_text(page, encoding="utf-8")
    if lines := speed(rows, device_of(documents, "gpt128")):
        readme = given.readme.read_text(encoding="utf-8")
        given.readme.write_text(filled(readme, "speed", lines), encoding="utf-8")
    print(f"{given.page}: {', '.join(name for name, lines in made.items() if lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
