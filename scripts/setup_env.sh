# Sourced by the other scripts: sets ROOT and defines emu3_find_python [EXTRA ...], which sets
# PYTHON to a Python with the dependencies and those extras of setup.cfg: $PYTHON where it is given,
# else the active Python or .venv, which is made when neither will do and has emu3 itself too; and
# RUN, which starts a module with it; and emu3_task. VENV and VERSIONS: where that .venv is and which
# versions it has.
unset CDPATH  # with it `cd` may go elsewhere, and prints where
ROOT="$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")"
if [[ "$ROOT" == *:* ]]; then
    echo "emu3: the folder $ROOT has a ':' in its name, at which Python splits paths; rename it" >&2
    exit 2
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
export GLOG_v="${GLOG_v:-3}"
# Python is not to take modules from the working directory, which may hold an emu3/ or queue.py.
export PYTHONSAFEPATH=1
VENV="$ROOT/.venv"
VERSIONS=requirements.txt
PYTHONS=(python3 python python3.11 python3.12 python3.10)

# Sets RUN so that "${RUN[@]}" MODULE [ARGUMENT ...] is `python -m` which heeds that before 3.11, too.
emu3_set_run() {
    local code=0
    "$PYTHON" -c 'import sys; sys.exit(3 if sys.version_info < (3, 11) else 0)' >/dev/null 2>&1 ||
        code=$?
    RUN=("$PYTHON" -m)
    if [ "$code" = 3 ]; then
        RUN=("$PYTHON" -c 'import sys; del sys.path[0], sys.argv[0]; import runpy
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)')
    fi
    [ "$code" = 0 ] || [ "$code" = 3 ]
}

emu3_ready() {
    local python="$1"
    shift
    command -v "$python" >/dev/null 2>&1 && "$python" "$ROOT/scripts/check_env.py" "$@" 2>/dev/null
}

emu3_supported_python() {
    local python
    for python in "${PYTHONS[@]}"; do
        if "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
            2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "emu3: no Python 3.10, 3.11 or 3.12 found; install one and set PYTHON to its path" >&2
    return 1
}

# Makes $VENV with pip, also in place of one whose making was cut short.
emu3_make_venv() {
    local base venv="$VENV/bin/python"
    if "$venv" -m pip --version >/dev/null 2>&1; then return; fi
    base="$(emu3_supported_python)" || return 1
    "$base" -m venv --clear --without-pip "$VENV" || return 1
    # Sooner done than venv's own way, but only a pip from 22.3 on installs into another Python.
    "$base" -m pip --python "$venv" install --quiet --no-compile pip 2>/dev/null ||
        "$base" -m venv --clear "$VENV"
}

emu3_pip_install() {
    # Not compiled: of MindSpore's thousands of modules few are ever imported. No warnings: newer
    # pips show setuptools' general remarks on editable installs.
    PYTHONWARNINGS=ignore "$VENV/bin/python" -m pip install --quiet --no-compile \
        --disable-pip-version-check -c "$VERSIONS" "$@"
}

# What pip calls the checkout with these extras, from its own folder: .[EXTRA,...]
emu3_checkout() {
    local IFS=,
    echo ".${*:+[$*]}"
}

emu3_fill_venv() {
    echo "emu3: installing what this needs into $VENV (once; a few minutes)" >&2
    cd "$ROOT" || return 1
    unset PYTHONPATH  # or pip would see the checkout as installed
    emu3_make_venv || return 1
    # MindSpore's 2.4 GB take as long as all the rest, so the largest of that are unpacked meanwhile.
    # A pipe, though nothing goes through it: it waits for both, and Ctrl-C ends both.
    emu3_pip_install --no-deps mindspore | emu3_pip_install scipy transformers || return 1
    emu3_pip_install --editable "$(emu3_checkout "$@")"
}

# Only one process at a time may fill .venv; the others wait and find it ready.
emu3_locked_venv() {
    (
        if command -v flock >/dev/null 2>&1; then flock 9; fi
        emu3_ready "$VENV/bin/python" --emu3 "$@" || emu3_fill_venv "$@"
    ) 9>"$VENV.lock"
}

emu3_find_python() {
    emu3_choose_python "$@"
    export PYTHON
    emu3_set_run
}

# $PYTHON as it was given, or not at all; a relative path made absolute: scripts change folder.
emu3_given_python() {
    if ! command -v "$PYTHON" >/dev/null 2>&1 || ! emu3_set_run; then
        echo "emu3: PYTHON is $PYTHON, which is no Python; correct or unset it" >&2
        exit 2
    fi
    if ! "$PYTHON" "$ROOT/scripts/check_env.py" "$@" >&2; then
        echo "emu3: PYTHON is $PYTHON, which lacks the above; install it there, or unset PYTHON" >&2
        exit 2
    fi
    if [[ "$PYTHON" == [!/]*/* ]]; then PYTHON="$PWD/$PYTHON"; fi
}

emu3_choose_python() {
    local python venv="$VENV/bin/python"
    if [ -n "${PYTHON:-}" ]; then
        emu3_given_python "$@"
        return
    fi
    for python in python python3; do
        if emu3_ready "$python" "$@"; then
            PYTHON="$python"
            return
        fi
    done
    if ! emu3_ready "$venv" --emu3 "$@"; then
        if ! emu3_locked_venv "$@" || ! "$venv" "$ROOT/scripts/check_env.py" --emu3 "$@" >&2; then
            echo "emu3: set-up failed; in $ROOT run by hand:" \
                "python -m pip install -c requirements.txt -e '$(emu3_checkout "$@")'" >&2
            exit 1
        fi
    fi
    PYTHON="$venv"
}

# Becomes a command of both models, emu3-mini's by default: emu3_task MODULE [ARGUMENT ...].
emu3_task() {
    local module="$1" mini="$ROOT/assets/emu3-mini"
    shift
    export DEVICE_ID="${DEVICE_ID:-0}"
    exec "${RUN[@]}" "$module" --model "${MODEL:-$mini/language}" \
        --vq-model "${VQ_MODEL:-$mini/vision}" "$@"
}
