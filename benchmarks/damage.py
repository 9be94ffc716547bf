"""How often flipped bits change a verdict without a word.

    python benchmarks/damage.py FOLDER --model MODEL [--copies 600] [--decoders auto,decord]

Copies of the folder's MP4 files, each with 1, 3 or 10 flipped bits in its media data, are scored
beside the whole files, once per decoder. Prints for each decoder and number of bits:

- told: the row has no score, or the flag ``damaged``;
- silent: the row is ``ok`` without the flag, and its score is another one;
- turned: a silent row whose verdict is decided and not that of the whole file.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from processes import describe_machine

_NUM_BITS = (1, 3, 10)


def main() -> None:
    """Make copies, score, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--copies", type=int, default=600)
    parser.add_argument("--decoders", default="auto,decord")
    chosen = parser.parse_args()
    whole = sorted(chosen.folder.rglob("*.mp4"))
    found: dict[str, object] = {"machine": describe_machine(("av", "decord"))}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_copies(whole, work / "in", num_copies=chosen.copies)
        for decoder in chosen.decoders.split(","):
            rows = score(work / "in", chosen.model, work / decoder, decoder)
            found[decoder] = compare(rows)
    print(json.dumps(found, indent=2))


def make_copies(whole: list[Path], folder: Path, *, num_copies: int) -> None:
    """Link the whole files, and write the damaged copies: ``<file>-<bits>-<copy>.mp4``."""
    folder.mkdir()
    rng = random.Random(0)
    for number, path in enumerate(whole):
        (folder / f"{number}.mp4").symlink_to(path.resolve())
    for copy in range(num_copies):
        number = copy % len(whole)
        num_bits = _NUM_BITS[copy // len(whole) % len(_NUM_BITS)]
        content = bytearray(whole[number].read_bytes())
        spans = list_media_spans(content)
        for _ in range(num_bits):
            start, end = rng.choices(spans, [end - start for start, end in spans])[0]
            content[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
        (folder / f"{number}-{num_bits}-{copy}.mp4").write_bytes(content)


def list_media_spans(content: bytes | bytearray) -> list[tuple[int, int]]:
    """List the bytes of the ``mdat`` boxes (ISO/IEC 14496-12 section 4.2)."""
    spans, start = [], 0
    while start + 8 <= len(content):
        size, head = int.from_bytes(content[start : start + 4]), 8
        if size == 1:
            size, head = int.from_bytes(content[start + 8 : start + 16]), 16
        end = start + size if size else len(content)
        if content[start + 4 : start + 8] == b"mdat":
            spans.append((start + head, end))
        start = max(end, start + 8)
    return spans


def score(folder: Path, model: str, out: Path, decoder: str) -> dict[str, dict[str, str]]:
    """Score a folder; give each file's row by its name without ending."""
    command = (sys.executable, "-m", "flows", "score", str(folder), "--model", model)
    options = ("--out", str(out), "--decoder", decoder, "--set", "heat_maps=false")
    quiet = {**os.environ, "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    subprocess.run([*command, *options], check=True, env=quiet, stdout=subprocess.DEVNULL)
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        return {Path(row["path"]).stem: row for row in csv.DictReader(file)}


def compare(rows: dict[str, dict[str, str]]) -> dict[str, Counter[str]]:
    """Count what became of the damaged copies, by the number of flipped bits."""
    counts: dict[str, Counter[str]] = {str(bits): Counter() for bits in _NUM_BITS}
    for name, row in rows.items():
        if "-" not in name:
            continue
        number, num_bits, _ = name.split("-")
        before, count = rows[number], counts[num_bits]
        count["copies"] += 1
        if row["status"] != "ok" or "damaged" in row["quality_flags"].split():
            count["told"] += 1
        elif row["score"] != before["score"]:
            count["silent"] += 1
            is_turned = row["verdict"] not in {before["verdict"], "inconclusive"}
            count["turned"] += is_turned
    return counts


if __name__ == "__main__":
    main()
