#!/bin/sh
# A training job that never heard of the sentinel: a shell script with two traps.
#
#   sh train.sh runs/sh [STEPS [DIVERGES_AT]]
#
# SIGUSR1 asks for a checkpoint, SIGTERM for a checkpoint and the end. Its numbers go through a pipe to another process,
# which writes the event file; so the sentinel has to be told whom to ask: `sentinel run --act --pid PID runs`.
# PYTHON names the interpreter that has tensorboard.

run=${1:?usage: train.sh RUN [STEPS [DIVERGES_AT]]}
steps=${2:-100000}
diverges=${3:-$((steps + 1))}
step=0
loss=1
save=
end=
trap 'save=1' USR1   # a trap only sets a variable; the shell runs it between two commands
trap 'save=1; end=1' TERM

# A safetensors file by hand: eight bytes of length, the header, then the bytes that it names.
save_checkpoint() {
    state="step=$step loss=$loss"
    header=$(printf '{"state":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' ${#state} ${#state})
    path=$run/checkpoints/checkpoint-$step.safetensors
    {
        printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0"   # shorter than 256 bytes
        printf %s "$header$state"
    } >"$path.part" && sync "$path.part" && mv "$path.part" "$path" && echo "saved $path"
}

mkdir -p "$run/checkpoints" || exit 1
pipe=$run/.numbers.$$
mkfifo "$pipe" || exit 1
"${PYTHON:-python3}" "$(dirname "$0")/log_scalars.py" "$run" <"$pipe" &
exec 3>"$pipe"
rm "$pipe"

while [ "$step" -lt "$steps" ] && [ -z "$end" ]; do
    step=$((step + 1))
    sleep 0.05
    if [ "$step" -ge "$diverges" ] && [ "$loss" -lt 1000000 ]; then loss=$((loss * 2)); fi
    echo "train/loss $step $loss" >&3
    if [ -n "$save" ]; then
        save=
        save_checkpoint
    fi
done
exec 3>&-   # the logger ends with its input
wait
