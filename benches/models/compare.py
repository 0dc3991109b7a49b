#!/usr/bin/env python3
"""scikit-learn's random forest on the windows and splits that `--example compare -- --matrix FILE` wrote.

Needs scikit-learn (pip install scikit-learn). Prints the same figures as the example: macro F1 over the classes that are to be
told, accuracy, attack against peace as the forest names it and at two prices in false alarms (the point on 1 - P(normal) is chosen
by the windows told), seconds to fit, microseconds a row (one by one, as a detector asks, and all at once). Once with classes
balanced, once with the weights of Weir's forest, once without weights.
"""
import array
import csv
import itertools
import sys
import time

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

PRICES = (0.003, 0.01)
WEIGHTS = ("balanced", "as ours", "none")


def folds(path):
    """Fold by fold: together they may be too much for the memory."""
    with open(path, newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for fold, part in itertools.groupby(rows, key=lambda row: row[0]):
            values = {"train": array.array("f"), "test": array.array("f")}
            classes = {"train": [], "test": []}
            for _fold, side, _thinned, label, *features in part:
                values[side].extend(float(value) if value else np.nan for value in features)
                classes[side].append(label)
            yield fold, *(
                (np.frombuffer(values[side], dtype=np.float32).reshape(len(classes[side]), -1), np.array(classes[side]))
                for side in ("train", "test")
            )


def main():
    print(
        "| fold | weights | windows | macro F1 | accuracy | attack F1 | false alarms | AUC "
        "| at 0.3 %: F1 | recall | at 1 %: F1 | recall | fit CPU s | row µs, one | row µs, all |"
    )
    print("|" + " --- |" * 15)
    for fold, learned, told in folds(sys.argv[1]):
        for weights in WEIGHTS:
            print(f"| {fold} | {weights} | {row(weights, learned, told)} |", flush=True)


def row(weights, learned, told):
    (train, labels), (test, truth) = learned, told
    forest = RandomForestClassifier(
        n_estimators=60,
        max_depth=14,
        max_features=0.2,
        class_weight="balanced_subsample" if weights == "balanced" else None,
        random_state=1,
        n_jobs=1,
    )
    started = time.process_time()
    forest.fit(train, labels, sample_weight=rarity(labels) if weights == "as ours" else None)
    fitted = time.process_time() - started
    started = time.process_time()
    told = forest.predict(test)
    bulk = (time.process_time() - started) / len(test) * 1e6
    one = min(seconds(forest, test[at : at + 1]) for at in range(min(20, len(test)))) * 1e6
    attack, alarm = truth != "normal", told != "normal"
    false_alarms = (alarm & ~attack).sum() / max(1, (~attack).sum())
    macro = f1_score(truth, told, average="macro", labels=np.unique(truth), zero_division=0)
    score = 1.0 - forest.predict_proba(test)[:, list(forest.classes_).index("normal")]
    return (
        f"{len(test)} | {macro:.3f} | {(told == truth).mean():.3f} | {f1_score(attack, alarm, zero_division=0):.3f} "
        f"| {false_alarms:.4f} | {curve(attack, score)} | {fitted:.1f} | {one:.0f} | {bulk:.1f}"
    )


def rarity(labels):
    """The square root of how much rarer than the mean a class is, as in `models/src/samples.rs`."""
    _names, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.minimum(np.sqrt(counts.mean() / counts), 50.0)[places]


def curve(attack, score):
    """AUC, and F1 and recall where at most so many windows of peace are called attacks."""
    cells = [f"{roc_auc_score(attack, score):.3f}"]
    wrong, recall, _points = roc_curve(attack, score, drop_intermediate=False)
    for price in PRICES:
        at = np.flatnonzero(wrong <= price)[-1]
        hits, alarms = recall[at] * attack.sum(), wrong[at] * (~attack).sum()
        cells.append(f"{2 * hits / max(1, hits + alarms + attack.sum()):.3f} | {recall[at]:.3f}")
    return " | ".join(cells)


def seconds(forest, row):
    started = time.process_time()
    forest.predict(row)
    return time.process_time() - started


if __name__ == "__main__":
    main()
