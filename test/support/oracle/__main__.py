"""The tests' oracle process: python3 test/support/oracle

Reads one JSON command a line, answers with JSON lines. Byte strings travel as
latin1 (one char = one byte). Uses nothing of veneer: what it says about a tree
on disk is independent of the code under test.

  {"do": "snapshot", "dir": …, "content": …}   one array an entry, then {"ok": n}
  {"do": "mount", "type": …, "source": …, "target": …, "options": [[key, value|null], …]}
  {"do": "mount-old", "type": …, "path": file|null, "target": new directory, "options": [text, …]}
  {"do": "umount", "target": …}
  {"do": "unpack", "layers": [tar, …], "into": dir, "implied": {…}}
An error is {"error": text}.
"""
import json
import sys

import layers
import mounts
import snapshot


def run(command, out):
    name = command.pop("do")
    if name == "snapshot":
        return snapshot.write(out=out, **command)
    if name == "mount":
        return mounts.mount(**command)
    if name == "mount-old":
        return mounts.mount_old(**command)
    if name == "umount":
        return mounts.umount(**command)
    if name == "unpack":
        return layers.unpack(**command)
    raise ValueError("no such command: " + name)


def main():
    out = sys.stdout
    for line in sys.stdin:
        try:
            reply = {"ok": run(json.loads(line), out)}
        except Exception as error:  # every failure goes to the caller, none ends the process
            reply = {"error": "%s: %s" % (type(error).__name__, error)}
        out.write(json.dumps(reply) + "\n")
        out.flush()


main()
