# SPDX-License-Identifier: Apache-2.0
kiln run add.onnx -i 1 -v 2>&1 > /dev/null | sed 's/[0-9.]* ms/T ms/'
echo
kiln run add.onnx -i 1 -vv 2>&1 > /dev/null | grep -c debug | sed 's/[0-9]*/many/'
