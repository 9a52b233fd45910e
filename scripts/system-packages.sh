#!/usr/bin/env bash
# system-packages.sh BIN -- what the tests need beyond Python: a browser, and Prometheus' checkers.
# The checkers are only unpacked into BIN: installing the packages would start servers.
set -euo pipefail
bin=$(cd "${1:?folder for the checkers}" && pwd)
export DEBIAN_FRONTEND=noninteractive

as_root_on_debian() { command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; }

fetch_checkers() {
  local folder
  folder=$(mktemp -d)
  # apt-get drops to its own user, who must be able to write here
  chmod 777 "$folder"
  (cd "$folder" && apt-get download -qq prometheus prometheus-alertmanager &&
    for package in *.deb; do dpkg -x "$package" unpacked; done)
  cp "$folder"/unpacked/usr/bin/{promtool,amtool} "$bin/"
  rm -rf "$folder"
}

has_browser() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    command -v google-chrome >/dev/null
}

has_checkers() { command -v promtool >/dev/null || [ -x "$bin/promtool" ]; }

if as_root_on_debian && ! { has_browser && has_checkers; }; then
  apt-get update -qq
fi
if ! has_browser; then
  if as_root_on_debian; then
    echo "installing chromium (for the browser tests)"
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
  else
    echo "error: the browser tests need Chromium; install it" \
      "(Debian: sudo apt-get install chromium)" >&2
    exit 1
  fi
fi
if as_root_on_debian && ! has_checkers; then
  echo "unpacking promtool and amtool (for the checks of monitoring/)"
  fetch_checkers
fi
