"""Plot the scores of a run by verdict.

python examples/plot_scores.py scores/scores.parquet scores.png
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

COLOURS = {"real": "tab:blue", "inconclusive": "tab:gray", "fake": "tab:red"}


def main(table: Path, picture: Path) -> None:
    """Read the result table, count its files by status, and draw a histogram of the scores."""
    rows = pd.read_parquet(table, columns=["path", "status", "score", "verdict"])
    print(rows["status"].value_counts().to_string())

    scores = [rows.loc[rows["verdict"] == verdict, "score"] for verdict in COLOURS]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(
        scores,
        bins=20,
        range=(0, 1),
        stacked=True,
        color=list(COLOURS.values()),
        label=[f"{name} ({len(of)})" for name, of in zip(COLOURS, scores, strict=True)],
    )
    axes.set(xlabel="score: probability of fake", ylabel="files")
    axes.legend(title="verdict")
    figure.savefig(picture, dpi=120)
    print(f"picture: {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
