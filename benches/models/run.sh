#!/bin/sh
# Compares the forest with linfa's trees, linfa's logistic regression and scikit-learn's random forest, on the same windows.
# usage: benches/models/run.sh time|family|capture DATA…      (DATA as for `weir train`: labelled flows; options of the example may stand among them)
# PYTHON names the interpreter that has scikit-learn, TMPDIR the folder where windows are left for it: hundreds of MB a fold.
set -eu
by=$1
shift
python=${PYTHON:-python3}
matrix=$(mktemp)
trap 'rm -f "$matrix"' EXIT
cargo run --release -q -p weir-models --example compare -- --linfa 5 --by "$by" --matrix "$matrix" "$@"
if "$python" -c 'import sklearn' 2>/dev/null; then
    echo
    echo "## scikit-learn"
    "$python" "$(dirname "$0")/compare.py" "$matrix"
else
    echo "skipped: scikit-learn is not installed (pip install scikit-learn)"
fi
