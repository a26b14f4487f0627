#!/bin/sh
# Every test, in two lots side by side: those that run processes wait most of the time, the others compute.
#
#   check.sh PYTHON [pytest's options]
set -u
python=$1
shift
log=$(mktemp "${TMPDIR:-/tmp}/meta1g-check.XXXXXX") || exit 73
trap 'rm -f "$log"' EXIT
"$python" -m pytest -m 'not system' "$@" >"$log" 2>&1 &
pid=$!
echo 'with processes:'
"$python" -m pytest -m system "$@"
code=$?
wait $pid || code=$?
echo 'without processes:'
cat "$log"
exit $code
