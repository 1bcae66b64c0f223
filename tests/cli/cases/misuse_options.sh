# SPDX-License-Identifier: Apache-2.0
try() {
    echo "- $*" >&2
    kiln "$@"
    echo "exit $?" >&2
}
try run
try run add.onnx add.onnx
try run add.onnx --thread 2
try run add.onnx --frobnicate
try run add.onnx -x
try run add.onnx --threads
try run add.onnx --threads=
try run add.onnx --threads two
try run add.onnx --threads 1.5
try run add.onnx --threads -1
try run add.onnx --threads 5000
try run add.onnx -t9999999999999999999
try run add.onnx --atol nan
try run add.onnx --atol -1
try run add.onnx --runs 0
try run add.onnx --optimization basci
try run add.onnx --optimization xyz
try run add.onnx --backend onnxruntim
try run add.onnx --help=yes
try run add.onnx -vx
try run add.onnx -o a --output b
try run add.onnx --threads 1 -t 1
try calibrate add.onnx -d x -o a --calib b
try inspect
try inspect add.onnx --output x
try doctor everything
try doctor --jsno
try bench
try bench add.onnx --duration forever
try bench add.onnx --duration -1
try bench add.onnx --iterations 0
try build add.onnx --minShapes=x:1x3
try build add.onnx --fp16
try run add.onnx --val-range [0,1]
try bench --loadEngine=x.plan
# What would be passed over in silence.
mkdir -p kept
try run add.onnx --atol 1
try run add.onnx -o kept -c ./kept
try run add.onnx -o new -c new
try run add.onnx -c ""
try run add.onnx --cache kept --no-cache
try serve add.onnx --cache kept --no-cache
try refit add.onnx add.onnx -o new.onnx --rtol 1
try build add.onnx -o new.onnx --rest fp16
try build add.onnx -o new.onnx --ranges absent.json
try build add.onnx -o new.onnx --strict
try build add.onnx -o new.onnx --cache-limit 5
try quantize add.onnx -o new.onnx -p fp16 --method mse
try quantize add.onnx -o new.onnx -p fp16 --block 32
try quantize add.onnx -o new.onnx -p fp16 --rest bf16
try calibrate add.onnx -d kept -o new.json --percentile 99
try serve add.onnx --tls-key kept
echo new* >&2
