#!/usr/bin/env bash
# preflight.sh PYTHON -- before the installation: the right Python, enough disk, and what it costs
set -euo pipefail
python=${1:?no Python found: install Python 3.11}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$version" != "3.11" ]; then
  echo "error: Fovea needs Python 3.11, '$python' is $version; give another by PYTHON=" >&2
  exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  echo "error: '$python' has no venv module; on Debian: apt-get install python3.11-venv" >&2
  exit 1
fi
free_gb=$(df -Pk . | awk 'NR==2 { print int($4 / 1048576) }')
need_gb=10
if [ "$free_gb" -lt "$need_gb" ]; then
  echo "error: $free_gb GB free here, the installation needs $need_gb GB" >&2
  exit 1
fi
echo "Installing into .venv: about 3 GB to download, 8 GB on disk ($free_gb GB free)."
echo "Without a GPU, UV_TORCH_BACKEND=cpu makes that about 1 GB and 3 GB."
