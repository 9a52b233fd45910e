#!/usr/bin/env bash
# compose.sh up|down -- the stack in containers; makes .env with fresh secrets at the first start
set -euo pipefail
cd "$(dirname "$0")/.."
if ! docker compose version >/dev/null 2>&1; then
  echo "error: docker compose is not installed; without Docker run 'make local'" >&2
  exit 1
fi
case "${1:-}" in
  up)
    if [ ! -f .env ]; then
      umask 077
      while IFS= read -r line; do
        case "$line" in
          *=change-me) echo "${line%%=*}=$(head -c 32 /dev/urandom | base64 | tr -d '/+=\n')" ;;
          *) echo "$line" ;;
        esac
      done < .env.example > .env
      echo "wrote .env with fresh secrets"
    fi
    docker compose up --build --detach --wait
    docker compose ps
    ;;
  down) docker compose down ;;
  *) echo "usage: compose.sh up|down" >&2; exit 2 ;;
esac
