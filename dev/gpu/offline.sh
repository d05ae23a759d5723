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
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
missing=$(python3 -c 'import importlib.util, sys; print(*(name for name in sys.argv[1:] if not importlib.util.find_spec(name)))' \
    torch numpy pandas pyarrow scipy psutil regex requests cloudpickle tqdm yaml rich jinja2 safetensors packaging filelock)
[ -z "$missing" ] || echo "warning: this machine's python3 lacks $missing; add a wheel for each to $wheels"
# Bytecode is kept: several processes start, and each would compile Transformers for half a minute of the GPU's time.
exec env -u PYTHONDONTWRITEBYTECODE python3 "$@"
