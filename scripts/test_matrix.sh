#!/usr/bin/env bash
# Run the tests with the oldest and the newest versions that setup.cfg allows, each in a Python of
# its own (.venv-oldest, .venv-newest). Arguments go to pytest; SETS chooses, e.g. SETS=newest.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
cd "$ROOT"
for set in ${SETS:-oldest newest}; do
    python="$ROOT/.venv-$set/bin/python"
    versions="scripts/versions/$set.txt"
    if [ ! -f "$versions" ]; then
        echo "emu3: SETS names $set; allowed: oldest, newest" >&2
        exit 2
    fi
    # mindone, of the extra `original`, asks for transformers 4.57.1; tests that need it are skipped.
    extras=(video training dev)
    if [ "$set" = oldest ]; then extras+=(original); fi
    if ! cmp -s "$versions" "$ROOT/.venv-$set/versions.txt"; then
        "$(emu3_supported_python)" -m venv --clear "$ROOT/.venv-$set"
        "$python" -m pip install --quiet --no-compile -c "$versions" \
            --editable "$(emu3_checkout "${extras[@]}")"
        cp "$versions" "$ROOT/.venv-$set/versions.txt"
    fi
    echo "== $set: $("$python" -m pip freeze | grep -iE '^(mindspore|numpy|transformers|tokenizers)=' | xargs)"
    "$python" -m pytest "$@"
done
