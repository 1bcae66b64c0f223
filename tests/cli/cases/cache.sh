# SPDX-License-Identifier: Apache-2.0
# The second run of a model builds nothing; what is kept is listed, verified and cleared.
set +e
export KILN_BACKEND=tensorrt
on_tensorrt 10
origin() { grep -oE 'built [0-9]+ layers|found in the cache|without the cache' || echo neither; }
hide() {
    sed "s,$XDG_CACHE_HOME,CACHE,; s/^[0-9a-f]\{8\}/KEY     /" |
        sed 's/ *[0-9]* seconds\? ago/ JUST/; s/ *used$/ used/'
}
kiln run add.onnx --no-cache -v 2>&1 > /dev/null | origin
ls "$XDG_CACHE_HOME" 2> /dev/null
for _ in 1 2; do
    kiln run add.onnx -i 1 -o "out$_" -v 2>&1 > /dev/null | origin
done
cmp out1/sum.npy out2/sum.npy
kiln bench add.onnx --duration 0 --iterations 1 -v 2>&1 > /dev/null | origin
kiln run add.onnx --cache here -v 2>&1 > /dev/null | origin
kiln run add.onnx --cache here -v 2>&1 > /dev/null | origin
kiln build add.onnx -o a.plan -v 2>&1 > /dev/null | origin
kiln build add.onnx -o b.plan --cache here -v 2>&1 > /dev/null | origin
cmp a.plan b.plan
kiln cache list | hide
kiln cache verify > /dev/null
echo "exit $?"
for data in "$XDG_CACHE_HOME"/kiln/*/data; do
    echo damaged >> "$data"
done
kiln cache verify 2>&1 > /dev/null | grep -c 'its manifest says'
kiln run add.onnx -v 2>&1 > /dev/null | grep -oE 'cache is damaged|built 1 layers'
rm "$XDG_CACHE_HOME"/kiln/*/data.json
kiln cache verify --remove > /dev/null 2>&1
echo "exit $?"
kiln cache verify > /dev/null
echo "exit $?"
kiln cache clear | sed '1d; s/[0-9.]* MiB/SIZE/'
killed=$XDG_CACHE_HOME/kiln/0123456789abcdef0123456789abcdef # before it wrote a byte
mkdir "$killed" && touch "$killed/lock"
kiln cache verify > /dev/null
echo "exit $?"
kiln cache list | tail -n 1
ends cache lost
ends cache list --keep 3
kiln doctor --json | "$python" -c 'import json, sys; print(sorted(json.load(sys.stdin)["cache"]))'
