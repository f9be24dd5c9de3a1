#!/bin/sh
# enter-lab.sh USR RUN COMMAND…: runs it in a mount namespace of its own, where USR is /usr and RUN is /run.
#
# So programs of another Debian run with their own libraries, start themselves anew (containerd's shim, runc do), and
# put their sockets where nobody else looks. What is mounted outside on shared mounts appears inside, never the other
# way round.
set -eu
[ "${ENTERED:-}" = yes ] || ENTERED=yes exec unshare --mount --propagation slave sh "$0" "$@"
unset ENTERED
mount --bind "$2" /run
mount --bind "$1" /usr
shift 2
exec "$@"
