#!/bin/sh
# Compares the forest with linfa's trees, linfa's logistic regression and scikit-learn's random forest, on the same windows.
# usage: benches/models/run.sh time|family|capture DATA…      (DATA as for `weir train`: labelled CSV)
set -eu
by=$1
shift
matrix=$(mktemp)
trap 'rm -f "$matrix"' EXIT
cargo run --release -q -p weir-models --example compare -- --linfa 30 --by "$by" --matrix "$matrix" "$@"
if python3 -c 'import sklearn' 2>/dev/null; then
    echo
    echo "## scikit-learn"
    python3 "$(dirname "$0")/compare.py" "$matrix"
else
    echo "skipped: scikit-learn is not installed (pip install scikit-learn)"
fi
