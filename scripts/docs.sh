#!/usr/bin/env bash
# The pages and the API reference as a site: site/index.html. Needs neither MindSpore nor a model;
# mkdocs comes into a Python of its own, .venv-docs. Arguments go to mkdocs build.
set -euo pipefail
cd "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
python="$PWD/.venv-docs/bin/python"
needed="$(sed -n '/^docs =$/,/^[^ ]/s/^    //p' setup.cfg)"
filled="$PWD/.venv-docs/filled"
if [ "$(cat "$filled" 2>/dev/null)" != "$needed" ]; then
    python3 -m venv "$PWD/.venv-docs"
    # shellcheck disable=SC2086 # one word a package
    "$python" -m pip install --quiet --disable-pip-version-check $needed
    echo "$needed" >"$filled"
fi
"$python" -m mkdocs build --strict --clean "$@"  # --quiet would hide warnings from --strict, too
echo "site/index.html"
