# Sourced by the other scripts: sets ROOT and defines emu3_find_python [EXTRA ...], which sets
# PYTHON to a Python with the dependencies and those extras of setup.cfg: $PYTHON, the active
# Python or .venv, which is made when none of them will do.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
export GLOG_v="${GLOG_v:-3}"

emu3_ready() {
    local python="$1"
    shift
    command -v "$python" >/dev/null 2>&1 && "$python" "$ROOT/scripts/check_env.py" "$@" 2>/dev/null
}

emu3_supported_python() {
    local python
    for python in python3 python python3.11 python3.12 python3.10; do
        if "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
            2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "emu3: no Python 3.10, 3.11 or 3.12 found; install one and set PYTHON to its path" >&2
    return 1
}

emu3_make_venv() {
    local base venv="$ROOT/.venv/bin/python"
    base="$(emu3_supported_python)" || return 1
    echo "emu3: installing the requirements into $ROOT/.venv (once; a few minutes)" >&2
    # Also repairs a .venv whose making was cut short.
    "$venv" -m pip --version >/dev/null 2>&1 || "$base" -m venv --clear "$ROOT/.venv" || return 1
    "$venv" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements.txt"
}

# Only one process at a time may make .venv; the others wait and find it ready.
emu3_locked_venv() {
    (
        if command -v flock >/dev/null 2>&1; then flock 9; fi
        emu3_ready "$ROOT/.venv/bin/python" "$@" || emu3_make_venv
    ) 9>"$ROOT/.venv.lock"
}

emu3_find_python() {
    local python
    for python in "${PYTHON:-}" python python3 "$ROOT/.venv/bin/python"; do
        if [ -n "$python" ] && emu3_ready "$python" "$@"; then
            export PYTHON="$python"
            return
        fi
    done
    if ! emu3_locked_venv "$@" || ! "$ROOT/.venv/bin/python" "$ROOT/scripts/check_env.py" "$@" >&2; then
        echo "emu3: set-up failed; run 'python -m pip install -r requirements.txt' by hand" >&2
        exit 1
    fi
    export PYTHON="$ROOT/.venv/bin/python"
}
