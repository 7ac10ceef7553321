#!/usr/bin/env bash
# Benchmarks: a subject and its options, see `--help` of its module below, or all:
#   bash scripts/benchmark.sh decode --net 300m
#   PEER_PYTHON=torch-venv/bin/python bash scripts/benchmark.sh all
# `all` runs every line of BENCHMARKS, a module and options, goes on after one that fails, and adds
# further options to each. PEER_PYTHON is a Python with torch and transformers, for --peer torch;
# LLAMA_PYTHON one with llama-cpp-python, gguf and safetensors, for --peer llama-cpp.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
BENCHMARKS="${BENCHMARKS:-$ROOT/configs/benchmarks.txt}"
emu3_find_python training
PEER_PYTHON="${PEER_PYTHON:-$PYTHON}"
SUBJECT="${1:-decode}"
shift || true

run() {
    local peer=()
    if [[ " $* " == *" --peer llama-cpp "* ]]; then
        peer=(--peer-python "${LLAMA_PYTHON:-$PYTHON}")
    elif [[ " $* " == *" --peer "* ]]; then peer=(--peer-python "$PEER_PYTHON"); fi
    "${RUN[@]}" "$@" ${peer[@]+"${peer[@]}"}
}

case "$SUBJECT" in
    all) ;;
    sft) run train.measure.step_time "$@"; exit ;;
    jacobi) run train.mini.windows "$@"; exit ;;
    *) run emu3.cli.benchmark "$SUBJECT" "$@"; exit ;;
esac
failed=0
while read -r -a line; do
    printf '\n    python -m %s\n\n' "${line[*]}"
    run "${line[@]}" "$@" </dev/null || failed=1
done <"$BENCHMARKS"
exit "$failed"
