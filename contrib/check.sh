#!/bin/sh
# Every test, in three lots side by side: those that run processes wait most of the time, the others compute.
#
#   check.sh PYTHON [pytest's options]
set -u
python=$1
shift
logs=$(mktemp -d "${TMPDIR:-/tmp}/meta1g-check.XXXXXX") || exit 73
trap 'rm -rf "$logs"' EXIT
half='tests/system/test_[a-e]*.py'
code=0
lot() { # a name, and what of all tests
    name=$1
    shift
    "$python" -m pytest "$@" >"$logs/$name" 2>&1 || echo $? >"$logs/$name.failed"
}
lot 1 -m 'not system' "$@" &
# shellcheck disable=SC2086
lot 2 -m system "$@" $half &
lot 3 -m system --ignore-glob="$half" "$@" &
wait
for name in 1 2 3; do
    cat "$logs/$name"
    [ ! -e "$logs/$name.failed" ] || code=$(cat "$logs/$name.failed")
done
exit "$code"
