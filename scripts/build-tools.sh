#!/bin/sh
# Builds the pinned programs of network/tools into the folder given. A stamp of
# go.mod and go.sum makes a second run free.
set -eu
cd "$(dirname "$0")/.."
bin=${1:-bin}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)

missing=""
command -v go >/dev/null 2>&1 || missing="go"
command -v "${CC:-cc}" >/dev/null 2>&1 || missing="$missing a-C-compiler"
if [ -n "$missing" ]; then
	echo "build-tools: missing:$missing; install Go (version in go.mod) and gcc (Debian: apt-get install gcc libc6-dev)" >&2
	exit 1
fi

stamp="$bin/.tools.stamp"
want=$(cat network/tools/go.mod network/tools/go.sum | cksum; go env GOVERSION)
tools="peer orderer configtxgen osnadmin fabric-ca-server fabric-ca-client process-compose"
fresh=yes
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] || fresh=no
for t in $tools; do [ -x "$bin/$t" ] || fresh=no; done
if [ "$fresh" = yes ]; then exit 0; fi

cd network/tools
started=$(date +%s)
build() {
	echo "build-tools: $1 ($(($(date +%s) - started)) s)"
	go build -o "$bin/$1" "$2"
}
build peer github.com/hyperledger/fabric/cmd/peer
build orderer github.com/hyperledger/fabric/cmd/orderer
build configtxgen github.com/hyperledger/fabric/cmd/configtxgen
build osnadmin github.com/hyperledger/fabric/cmd/osnadmin
build fabric-ca-server github.com/hyperledger/fabric-ca/cmd/fabric-ca-server
build fabric-ca-client github.com/hyperledger/fabric-ca/cmd/fabric-ca-client
build process-compose github.com/f1bonacc1/process-compose/src
echo "$want" >"$stamp"
echo "build-tools: done in $(($(date +%s) - started)) s"
