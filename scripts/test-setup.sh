#!/bin/sh
# Installs what the tests need and a fresh machine lacks: Redis, PostgreSQL,
# strace, nftables where root can use it, headless Chromium, a Chinese font, Node.js, readers of PDFs and QR
# codes, the SD-JWT library and the OpenID provider that ours are tested against
# and the accessibility checker. As root on Debian it installs them; otherwise it
# says what to install.
set -eu
cd "$(dirname "$0")/.."
need=""
command -v redis-server >/dev/null 2>&1 || need="$need redis-server"
command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
command -v strace >/dev/null 2>&1 || need="$need strace"
[ "$(id -u)" != 0 ] || command -v nft >/dev/null 2>&1 || need="$need nftables"
command -v chromium >/dev/null 2>&1 || need="$need chromium"
command -v pdftoppm >/dev/null 2>&1 || need="$need poppler-utils"
command -v qpdf >/dev/null 2>&1 || need="$need qpdf"
command -v zbarimg >/dev/null 2>&1 || need="$need zbar-tools"
node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null 2>&1 || need="$need nodejs npm"
# Noto CJK does for pages, but not for PDFs.
[ -n "$(ls /usr/share/fonts/truetype/wqy/*.ttc 2>/dev/null)" ] || need="$need fonts-wqy-zenhei"
packages() {
	[ gateway/credential/interop/node_modules/.package-lock.json -nt gateway/credential/interop/package-lock.json ] ||
		npm ci --prefix gateway/credential/interop --no-audit --no-fund
	[ gateway/identity/provider/node_modules/.package-lock.json -nt gateway/identity/provider/package-lock.json ] ||
		npm ci --prefix gateway/identity/provider --no-audit --no-fund
	[ proof/js/node_modules/.package-lock.json -nt proof/js/package-lock.json ] ||
		npm ci --prefix proof/js --no-audit --no-fund
	[ test/browser/node_modules/.package-lock.json -nt test/browser/package-lock.json ] ||
		npm ci --prefix test/browser --no-audit --no-fund
}
[ -n "$need" ] || { packages; exit 0; }
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "test-setup: the tests need:$need; install them (Debian: sudo apt-get install$need) and run again" >&2
	exit 1
fi
echo "test-setup: installing$need"
apt-get update -qq
# A service started by the package is not wanted: tests start their own server.
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $need >/dev/null
if ! node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)'; then
	echo "test-setup: Node.js $(node --version) is installed and 20 is needed; Debian 13 has it, for Debian 12 see https://nodejs.org/en/download" >&2
	exit 1
fi
packages
