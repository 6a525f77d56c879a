"""Which map is right? Tokens that are known to decide, and pixels whose removal hurts.

    python benchmarks/faithfulness.py [--seeds 5] [--quick] [--only text|pixels]

Text: a tiny GPT-2, Llama and BERT learn to name the digit that follows a marker among other digits, so the
evidence is known. top-1: does the largest relevance fall on that digit; "of both": on it or on the marker;
IoU: of the two tokens of largest relevance with these two. Pixels: scikit-learn's digits, a CNN and a tiny
ViT; pixels are replaced by their mean over the data, most relevant first (MoRF) or least relevant first
(LeRF), and the probability of the predicted class is averaged over all steps; ABPC = LeRF - MoRF. Rows of LXT
and zennit appear where those packages import. Figures: mean over seeds (of training, data and examples) and
standard deviation.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import warnings
from collections import defaultdict

from evidence_text import text
from methods import Table
from pixel_flipping import pixels


def show(table: Table) -> None:
    """Markdown, a table per model, in the order of the methods."""
    for model, methods in table.items():
        first = next(iter(methods.values()))
        metrics = [m for m in first if m != "accuracy"]
        print(f"**{model}** (accuracy {statistics.mean(first['accuracy']):.3f})\n")
        print("| method | " + " | ".join(metrics) + " |\n" + "|---" * (len(metrics) + 1) + "|")
        for name, kept in methods.items():
            cells = [f"{statistics.mean(kept[m]):.3f} ± {statistics.pstdev(kept[m]):.3f}" for m in metrics]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="does it run? (the figures mean nothing)")
    parser.add_argument("--only", choices=("text", "pixels"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    table: Table = defaultdict(lambda: defaultdict(dict))
    if chosen.only != "pixels":
        text(table, chosen.seeds, chosen.quick)
    if chosen.only != "text":
        pixels(table, chosen.seeds, chosen.quick)
    show(table)


if __name__ == "__main__":
    main()
