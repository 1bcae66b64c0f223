# SPDX-License-Identifier: Apache-2.0
# On a terminal a run of more than a second shows a bar, which is gone at the end; short ones, dumb
# terminals and pipes show nothing.
cat > look.py <<'P'
import os, pty, subprocess, sys
terminal, *command = sys.argv[1:]
master, slave = pty.openpty()
process = subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL,
                           env=dict(os.environ, TERM=terminal))
os.close(slave)
seen = b""
try:
    while True:
        part = os.read(master, 4096)
        if not part:
            break
        seen += part
except OSError:
    pass
process.wait()
print(terminal, "bar" if b"measuring  ##" in seen and b" %  1." in seen else "no bar",
      "erased" if seen.endswith(b"\r\x1b[K") else "nothing" if not seen else repr(seen))
P
"$python" look.py xterm "$kiln_program" bench add.onnx --warmup 0 --duration 1.4
"$python" look.py xterm "$kiln_program" bench add.onnx --warmup 0 --duration 0.1
"$python" look.py dumb "$kiln_program" bench add.onnx --warmup 0 --duration 1.2
kiln bench add.onnx --warmup 0 --duration 1.2 2>&1 >/dev/null
