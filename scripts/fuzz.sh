#!/usr/bin/env bash
# Damaged inputs to every reader: 20,000 by default. Environment: FUZZ_EXAMPLES, inputs a target.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python video training original dev
cd "$ROOT"
export FUZZ_EXAMPLES="${FUZZ_EXAMPLES:-900}"
"$PYTHON" -m pytest tests/fuzz --timeout 3600 "$@"
