#!/bin/sh
# The main job: build what is missing, bring the consortium up, load the sample.
set -eu
cd "$(dirname "$0")/.."
state=${STATE:-.zhenglian}

command -v go >/dev/null 2>&1 || { echo "up: Go is missing; install the version named in go.mod from https://go.dev/dl/" >&2; exit 1; }
command -v "${CC:-cc}" >/dev/null 2>&1 || { echo "up: no C compiler; install one (Debian: apt-get install gcc libc6-dev)" >&2; exit 1; }
have=$(go env GOVERSION | sed 's/^go//')
want=$(sed -n 's/^go //p' go.mod)
oldest=$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)
[ "$oldest" = "$want" ] || { echo "up: Go $have is too old; go.mod asks for $want or newer" >&2; exit 1; }

scripts/build-tools.sh bin
${MAKE:-make} --no-print-directory -s build
bin/zhenglian-network up --state "$state"
exec bin/zhenglian sample --state "$state"
