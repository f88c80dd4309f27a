#!/bin/sh
# Runs every fuzz target of the module for the time given (default 20s).
set -eu
cd "$(dirname "$0")/.."
time=${1:-20s}
found=0
for file in $(git ls-files -co --exclude-standard '*_test.go' | xargs grep -l '^func Fuzz'); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		found=$((found + 1))
		echo "fuzz: ./$(dirname "$file") $target for $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5x "./$(dirname "$file")"
	done
done
[ "$found" -gt 0 ] || { echo "fuzz: found no fuzz target" >&2; exit 1; }
echo "fuzz: $found targets, no failure"
