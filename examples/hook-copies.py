#!/usr/bin/env python3
"""A hook for veneer: keeps what a root file system is after each layer as a plain copy, and gives it back.

    [[hook]]
    command = ["/usr/local/lib/veneer/hook-copies.py", "/var/cache/copies"]

docs/hooks.md says what each event means.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys

DECLINED = 10
cache, event = sys.argv[1], sys.argv[-1]
request = json.load(sys.stdin)
rootfs = request["rootfs"]


def answer(reply):
    print(json.dumps(reply))
    sys.exit(0)


def copy(source, target):
    """A copy with everything: owners, times, attributes, hard links, holes. Blocks are shared where that goes."""
    subprocess.run(["cp", "-aT", "--reflink=auto", "--", source, target], check=True)


def kept(layer):
    """With other maps the files have other owners."""
    maps = hashlib.sha256(json.dumps(request["maps"], sort_keys=True).encode()).hexdigest()
    return os.path.join(cache, f"{layer['chainID'].replace(':', '-')}-{maps[:16]}")


def prepare():
    os.makedirs(cache, mode=0o700, exist_ok=True)
    # A copy holds a layer and all below it.
    answer({"cumulative": True})


def try_skip():
    layer = request["layer"]
    if not os.path.isdir(kept(layer)):
        sys.exit(DECLINED)
    copy(kept(layer), rootfs)
    answer({"diffIDs": [one["diffID"] for one in request["layers"][: layer["index"] + 1]]})


def commit():
    target = kept(request["layer"])
    if not os.path.isdir(target):
        # Under its name it must be complete: copy first, rename then.
        unfinished = f"{target}.{os.getpid()}"
        copy(rootfs, unfinished)
        subprocess.run(["sync", "-f", unfinished], check=True)
        os.rename(unfinished, target)
    answer({})


def abort():
    shutil.rmtree(rootfs, ignore_errors=True)
    answer({})


actions = {
    "unpack.ociv1.image.prepare": prepare,
    "unpack.ociv1.layer.try-skip": try_skip,
    "unpack.ociv1.layer.commit": commit,
    "unpack.ociv1.image.abort": abort,
}
actions.get(event, lambda: sys.exit(DECLINED))()
