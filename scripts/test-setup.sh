#!/bin/sh
# Installs what the tests need and a fresh machine lacks: Redis, PostgreSQL,
# strace, headless Chromium and a Chinese font. As root on Debian it installs
# them; otherwise it says what to install.
set -eu
need=""
command -v redis-server >/dev/null 2>&1 || need="$need redis-server"
command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
command -v strace >/dev/null 2>&1 || need="$need strace"
command -v chromium >/dev/null 2>&1 || need="$need chromium"
[ -n "$(ls /usr/share/fonts/truetype/wqy/*.ttc /usr/share/fonts/opentype/noto/NotoSansCJK* 2>/dev/null)" ] || need="$need fonts-wqy-zenhei"
[ -n "$need" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "test-setup: the tests need:$need; install them (Debian: sudo apt-get install$need) and run again" >&2
	exit 1
fi
echo "test-setup: installing$need"
apt-get update -qq
# A service started by the package is not wanted: tests start their own server.
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $need >/dev/null
