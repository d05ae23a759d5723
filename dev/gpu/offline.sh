#!/bin/sh
# Run Python with the wheels of a folder beside what the machine has: sh dev/gpu/offline.sh FOLDER -m dev.gpu ...
# For a machine without a network whose own python3 holds PyTorch; nothing of the machine's is changed.
set -eu
wheels=$1
shift
site=$PWD/.venv/wheels
ls "$wheels"/*.whl > /dev/null 2>&1 || { echo "error: WHEELS=$wheels holds no wheels: fill it by make wheels"; exit 2; }
if [ ! -f "$site/installed" ] || [ "$wheels" -nt "$site/installed" ]; then
    rm -rf "$site"
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    touch "$site/installed"
fi
PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} exec python3 "$@"
