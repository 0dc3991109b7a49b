#!/usr/bin/env python3
"""scikit-learn's random forest on the windows and splits that `--example compare -- --matrix FILE` wrote.

Needs scikit-learn (pip install scikit-learn). Prints the same figures as the example: macro F1 over the classes that are to be
told, accuracy, attack against peace, seconds to fit, microseconds a row (one by one, as a detector asks, and all at once).
"""
import csv
import sys
import time

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score


def read(path):
    folds = {}
    with open(path, newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for fold, side, _thinned, label, *values in rows:
            sides = folds.setdefault(fold, {"train": ([], []), "test": ([], [])})
            sides[side][0].append([float(value) if value else np.nan for value in values])
            sides[side][1].append(label)
    return folds


def main():
    print("| fold | windows | macro F1 | accuracy | attack F1 | false alarms | fit CPU s | row µs, one | row µs, all |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for fold, sides in read(sys.argv[1]).items():
        train, labels = np.array(sides["train"][0], dtype=np.float32), np.array(sides["train"][1])
        test, truth = np.array(sides["test"][0], dtype=np.float32), np.array(sides["test"][1])
        forest = RandomForestClassifier(
            n_estimators=60, max_depth=14, max_features=0.2, class_weight="balanced_subsample", random_state=1, n_jobs=1
        )
        started = time.process_time()
        forest.fit(train, labels)
        fitted = time.process_time() - started
        started = time.process_time()
        told = forest.predict(test)
        row = (time.process_time() - started) / len(test) * 1e6
        one = min(seconds(forest, test[at : at + 1]) for at in range(min(20, len(test)))) * 1e6
        attack, alarm = truth != "normal", told != "normal"
        false_alarms = (alarm & ~attack).sum() / max(1, (~attack).sum())
        macro = f1_score(truth, told, average="macro", labels=np.unique(truth), zero_division=0)
        print(
            f"| {fold} | {len(test)} | {macro:.3f} | {(told == truth).mean():.3f} | {f1_score(attack, alarm, zero_division=0):.3f} "
            f"| {false_alarms:.4f} | {fitted:.1f} | {one:.0f} | {row:.1f} |",
            flush=True,
        )


def seconds(forest, row):
    started = time.process_time()
    forest.predict(row)
    return time.process_time() - started


if __name__ == "__main__":
    main()
