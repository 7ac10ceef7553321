# Sourced by the scripts that fine-tune: sets up Python and defines emu3_fine_tune.
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python training
cd "$ROOT"

# emu3_fine_tune TASK FOLDER "MODULE OPTION ..." [ARGUMENT ...]: fine-tunes with
# configs/mini_TASK_sft.yaml on the features that the module writes into FOLDER, unless CONFIG or
# DATA is given.
emu3_fine_tune() {
    local task="$1" features="$2" prepare output="${OUTPUT:-outputs/$1_sft}" lists=() model=()
    read -r -a prepare <<<"$3"
    shift 3
    if [ -z "${CONFIG:-}${DATA:-}" ]; then
        DATA="$features"
        "${RUN[@]}" "${prepare[@]}"
    fi
    if [ -n "${DATA:-}" ]; then lists=(--train_data_path "$DATA"); fi
    if [ -e "${DATA:-}/list/test.json" ]; then lists+=(--eval_data_path "$DATA"); fi
    if [ -n "${MODEL:-}" ]; then model=(--model_name_or_path "$MODEL"); fi
    exec "${RUN[@]}" train.launch -n "${NPROC:-2}" --logs "$output/logs" train.train_seq_parallel \
        --config "${CONFIG:-configs/mini_${task}_sft.yaml}" ${lists[@]+"${lists[@]}"} \
        ${model[@]+"${model[@]}"} --output_dir "$output" "$@"
}
