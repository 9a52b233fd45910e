#!/usr/bin/env bash
# compose.sh up|down|secrets -- the stack in containers; makes .env with fresh secrets, once
set -euo pipefail
cd "$(dirname "$0")/.."

# Writes .env from .env.example, every empty value filled with 256 random bits.
write_secrets() {
  umask 077
  while IFS= read -r line; do
    case "$line" in
      [A-Z]*=) echo "$line$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" ;;
      *) echo "$line" ;;
    esac
  done < .env.example > .env.part
  mv .env.part .env
  echo "wrote .env with fresh secrets"
}

# To compose it is a number of containers; 0, "one for every four cores", would be none.
need_workers() {
  local given
  given=${FOVEA_INFERENCE_WORKERS-$(sed -n 's/^FOVEA_INFERENCE_WORKERS=//p' .env)}
  if [ "${given:-1}" = 0 ]; then
    echo "error: FOVEA_INFERENCE_WORKERS must be 1 or more: compose cannot count cores" >&2
    exit 1
  fi
}

need_docker() {
  if ! docker compose version >/dev/null 2>&1; then
    echo "error: docker compose is not installed; without Docker run 'make local'" >&2
    exit 1
  fi
}

# The key that the dashboard and the `fovea` command send to the gateway.
make_api_key() {
  local key
  key=$(docker compose exec -T gateway \
    python -m gateway.app.keys create --name dashboard --role admin | tail -n 1)
  echo "FOVEA_API_KEY=$key" >> .env
  docker compose up --detach --wait dashboard
}

case "${1:-}" in
  secrets) [ -f .env ] || write_secrets ;;
  up)
    need_docker
    [ -f .env ] || write_secrets
    need_workers
    docker compose up --build --detach --wait
    grep -q '^FOVEA_API_KEY=' .env || make_api_key
    docker compose ps
    echo "for the fovea command: export FOVEA_API_KEY=\$(sed -n 's/^FOVEA_API_KEY=//p' .env)"
    ;;
  down) need_docker; docker compose down ;;
  *) echo "usage: compose.sh up|down|secrets" >&2; exit 2 ;;
esac
