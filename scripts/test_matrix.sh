#!/usr/bin/env bash
# Run the tests with the oldest and the newest versions that setup.cfg allows, each in a Python of
# its own (.venv-oldest, .venv-newest; made once). Arguments go to pytest; SETS chooses, e.g.
# SETS=newest. Exit code 1: tests failed; 75: none did, but pip could not install a set.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
cd "$ROOT"

# Fills $VENV with the versions of $VERSIONS, or leaves nothing of it but $VENV.log; one process at a
# time, the others find it ready.
emu3_fill_set() {
    (
        if command -v flock >/dev/null 2>&1; then flock 9; fi
        if cmp -s "$VERSIONS" "$VENV/versions.txt" && emu3_ready "$VENV/bin/python" --emu3 "$@"; then
            exit
        fi
        echo "emu3: installing into $VENV (once; a few minutes)" >&2
        rm -rf "$VENV"
        if ! (emu3_fill_venv "$@") >"$VENV.log" 2>&1; then
            rm -rf "$VENV"
            exit 1
        fi
        cp "$VERSIONS" "$VENV/versions.txt"
    ) 9>"$VENV.lock"
}

emu3_versions() {
    "$VENV/bin/python" - <<'END'
from importlib.metadata import version
from platform import python_version

names = ("mindspore", "transformers", "tokenizers", "numpy")
print(f"Python {python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
END
}

code=0
for set in ${SETS:-oldest newest}; do
    VENV="$ROOT/.venv-$set" VERSIONS="configs/versions/$set.txt"
    extras=(video training dev)
    case "$set" in
    oldest)
        PYTHONS=(python3.10 python3.11 python3 python python3.12)
        extras+=(original)
        ;;
    newest) PYTHONS=(python3.12 python3.11 python3 python python3.10) ;; # mindone wants older ones
    *)
        echo "emu3: SETS names $set; allowed: oldest, newest" >&2
        exit 2
        ;;
    esac
    if ! emu3_fill_set "${extras[@]}"; then
        echo "emu3: tests of the $set versions not run: pip could not install them, see $VENV.log" >&2
        if [ "$code" = 0 ]; then code=75; fi
        continue
    fi
    echo "== $set: $(emu3_versions)"
    PYTHON="$VENV/bin/python" "$VENV/bin/python" scripts/run_tests.py "$@" || code=1
done
exit "$code"
