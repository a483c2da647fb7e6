"""Fits the weights of composition's doubt (`src/scorers/composition/doubt.rs`) to what
`cargo run --release --example pocket_doubts` saw: python doubt.py --seen FILE. Logistic regression, of the
signs that a small decoder's picture is scored otherwise than the VAE's. Prints the weights, and what share of
those that are scored otherwise lies among the most doubtful, of a fifth of the prompts at a time with weights
fitted to the others.
"""

import argparse
import json
from pathlib import Path

import numpy as np

SHARES = (0.1, 0.15, 0.2, 0.25, 0.3)
FOLDS = 5
# On the squares of the weights, of signs in their deviations.
DECAY = 1e-3


def fit(signs, other):
    """The weights and, last, the offset, by Newton's method."""
    deviation = signs.std(0)
    x = np.column_stack([signs / deviation, np.ones(len(signs))])
    decay = np.diag([2 * DECAY] * signs.shape[1] + [0.0])
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (chance - other) / len(x) + decay @ weights
        curve = (x * (chance * (1 - chance))[:, None]).T @ x / len(x) + decay
        weights -= np.linalg.solve(curve, slope)
    return np.append(weights[:-1] / deviation, weights[-1])


def odds(signs, weights):
    return signs @ weights[:-1] + weights[-1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seen", required=True, type=Path)
    arguments = parser.parse_args()
    seen = [json.loads(line) for line in arguments.seen.read_text().splitlines()]
    signs = np.array([one["signs"] for one in seen])
    other = np.array([abs(one["small"] - one["vae"]) > 1e-6 for one in seen], float)
    fold = np.array([one["prompt"] for one in seen]) % FOLDS
    said = np.zeros(len(seen))
    for held in range(FOLDS):
        weights = fit(signs[fold != held], other[fold != held])
        said[fold == held] = odds(signs[fold == held], weights)
    print(f"{len(seen)} candidates, {other.mean():.3f} scored otherwise")
    for share in SHARES:
        bar = np.quantile(said, 1 - share)
        caught = other[said >= bar].sum() / other.sum()
        print(f"the {share:.0%} of the most doubt, above {1 / (1 + np.exp(-bar)):.3f}: {caught:.3f} of those")
    print("weights and offset:", np.round(fit(signs, other), 3).tolist())


if __name__ == "__main__":
    main()
