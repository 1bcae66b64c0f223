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
