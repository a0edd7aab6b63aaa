#!/bin/sh
# Fine-tune the shipped detector on one GPU in bf16: nine minutes of training, twelve in all.
#
#     training/on_one_gpu.sh training/configs/yolo26n-768-any-way.yaml DATA.yaml runs/gpu
#
# A batch of 64 fits a GPU of 16 GB. The same line goes on after a kill.
set -eu
config=$1 data=$2 run=$3
start="$run.start/weights/restored.pt"
[ -e "$start" ] || python -m training.restore --data "$data" --out "$run.start"
resume=
[ -e "$run/weights/last.pt" ] && resume=--resume
python -m training.train "$config" --data "$data" --run "$run" --weights "$start" \
    --device 0 --hours 0.15 --set batch=64 --set cache=ram $resume
python -m training.export "$run/weights/best.pt" --out "$run/plates.onnx"
