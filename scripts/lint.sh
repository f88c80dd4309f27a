#!/bin/sh
# Checks the code and changes nothing: gofmt, go vet, staticcheck, import rules.
set -eu
cd "$(dirname "$0")/.."
bad=$(git ls-files -co --exclude-standard '*.go' | grep -v '\.gen\.go$' | xargs gofmt -l)
if [ -n "$bad" ]; then
	echo "lint: gofmt would change these files; run make fmt:" >&2
	echo "$bad" >&2
	exit 1
fi
go vet ./...
go vet -tags e2e ./test/e2e/...
go tool staticcheck -tags e2e ./...
go test ./internal/arch/
