#!/bin/sh
# Download into a folder the wheels that `make gpu` needs on a machine with PyTorch 2.11 or newer, Python 3.12 and
# what usually comes with them (numpy, pandas, pyarrow, rich, jinja2, safetensors, ...), but no network:
#     sh dev/gpu/wheels.sh FOLDER [requirements.lock]
# Versions are the lock's. PyTorch is not among them: the machine's own fits its driver. About 50 MB.
set -eu
folder=$1
lock=${2:-requirements.lock}
mkdir -p "$folder"
rm -f "$folder"/*.whl # two versions of one package would stop the installation
python=${PYTHON:-python3}
platforms=$(for glibc in 39 35 34 31 28 27 24 17; do printf ' --platform manylinux_2_%s_x86_64' $glibc; done)
for name in accelerate antlr4-python3-runtime anyio certifi cloudpickle contourpy cycler datasets datasketch dill fonttools h11 \
    httpcore2 httpx2 huggingface_hub hydra-core idna kiwisolver matplotlib multiprocess omegaconf peft pillow py3langid \
    pyparsing python-dateutil six submitit tokenizers transformers trl truststore xxhash; do
    pin=$(grep -i "^$name==" "$lock") || { echo "error: $lock has no $name"; exit 1; }
    if [ $name = antlr4-python3-runtime ]; then # published as source alone
        $python -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$pin"
        continue
    fi
    # shellcheck disable=SC2086 # several words
    $python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$folder" "$pin"
done
du -sh "$folder"
