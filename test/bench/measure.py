"""measure.py COMMAND…: runs it and prints, as JSON, wall and processor seconds, peak memory and exit code.

Peak memory is what wait4 says: the largest resident set of any one process among the
command and all it waited for. Output goes to a file named by $MEASURE_OUTPUT.
"""
import json
import os
import sys
import time

out = os.open(os.environ["MEASURE_OUTPUT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
null = os.open("/dev/null", os.O_RDONLY)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
start = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - start
print(json.dumps({
    "wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024,
    "code": os.waitstatus_to_exitcode(status),
}))
