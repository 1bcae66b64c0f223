# SPDX-License-Identifier: Apache-2.0
# On a terminal a run of more than a second shows a bar, which is gone at the end; short ones, dumb
# terminals and pipes show nothing. While a library is silent the line names its phase and counts
# the seconds, and however narrow the terminal is, it stays in one line.
cat > look.py <<'P'
import fcntl, os, pty, re, struct, subprocess, sys, termios
terminal, columns, pattern, *command = sys.argv[1:]


def run():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(columns), 0, 0))
    process = subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL,
                               env=dict(os.environ, TERM=terminal))
    os.close(slave)
    shown = ""
    try:
        while True:
            part = os.read(master, 4096).decode()
            if not part:
                break
            shown += part
    except OSError:
        pass
    os.close(master)
    process.wait()
    return shown


# What is short may take longer on a machine that is busy, but not each time.
for _ in range(int(os.environ.get("TRIES", "1"))):
    seen = run()
    if not seen:
        break
lines = seen.split("\r\x1b[K")
found = [line for line in lines if re.fullmatch(pattern, line)]
print(terminal, columns, "bar" if found else "no bar",
      "nothing" if not seen else "erased" if seen.endswith("\r\x1b[K") else repr(seen),
      "in one line" if all(len(line) < (int(columns) or 80) for line in lines) else "too wide")
if seen and not found:
    print(*map(repr, lines), sep="\n")
P
looks=0
look() { # TERMINAL COLUMNS PATTERN ARGUMENT...; all at once, since each waits for the clock
    local terminal=$1 columns=$2 pattern=$3
    shift 3
    looks=$((looks + 1))
    "$python" look.py "$terminal" "$columns" "$pattern" "$kiln_program" "$@" \
        > "look.$looks" 2>&1 &
}
measuring='[|/\\-] measuring  #+\.*  ?[0-9]+ %  1\.[0-9] s'
look xterm 0 "$measuring" bench add.onnx --warmup 0 --duration 1.4
TRIES=8 look xterm 0 "$measuring" bench add.onnx --warmup 0 --duration 0.1
look dumb 0 "$measuring" bench add.onnx --warmup 0 --duration 1.2
kiln bench add.onnx --warmup 0 --duration 1.2 2> piped > /dev/null &

on_tensorrt rtx15
export FAKE_TENSORRT_SILENCE=2000
build() { # FILE
    printf '%s\n' build add.onnx -o "$1" -b tensorrt
}
# shellcheck disable=SC2046 # several words
{
    look xterm 80 \
        '. building add.onnx  #######\.{5}  57 %  [12]\.[0-9] s  Evaluating tactic times 1 s' \
        $(build a.plan)
    look xterm 46 '. building add.onnx  #+\.+  57 %  [12]\.[0-9] s' $(build b.plan)
    look xterm 24 '. bui\.\.\.nx  57 %  [12]\.[0-9] s' $(build c.plan)
}
wait
for ((look = 1; look <= looks; look++)); do
    cat "look.$look"
done
cat piped
