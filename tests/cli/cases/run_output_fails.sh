# SPDX-License-Identifier: Apache-2.0
# Nothing appears where it cannot appear whole.
echo > file
kiln run add.onnx -o file > /dev/null
echo "exit $?"
kiln run add.onnx -o no/such/folder > /dev/null
echo "exit $?"
mkdir -p out/sum.npy
kiln run add.onnx -o out > /dev/null
echo "exit $?"
ls -A out out/sum.npy
kiln run add.onnx > /dev/full
echo "exit $?"
kiln --version > /dev/full
echo "exit $?"
# Who reads the table may have seen enough of it.
save_models many "(float[2] x) => ($(seq -s, -f 'float[2] y%g' 200)) { $(
    seq -s ' ' -f 'y%g = Relu(x)' 200) }"
"$python" - "$kiln_program" <<'P'
import os, signal, subprocess, sys
reader, writer = os.pipe()
os.close(reader)
done = subprocess.run([sys.argv[1], "run", "many.onnx", "-o", "seen"], stdout=writer, check=False)
print(done.returncode == -signal.SIGPIPE, len(os.listdir("seen")))
P
# What is written at the end of a long work is looked at before it: the model, which is not there,
# is not asked for.
mkdir folder
for output in no/such/folder/file folder; do
    for command in build calibrate quantize "refit -" bench; do
        option=-o
        [ "$command" = bench ] && option=--plot
        kiln $command nowhere.onnx $option $output
        echo "$command: exit $?"
    done
    kiln build nowhere.onnx -o good.plan --timing-cache $output
    echo "timing cache: exit $?"
done
# What is read is not lost by a slip; an engine may be refit, and a model quantized, where it lies.
cp add.onnx mine.onnx
for command in build calibrate; do
    kiln $command mine.onnx -o ./mine.onnx
    echo "$command: exit $?"
done
cmp add.onnx mine.onnx
