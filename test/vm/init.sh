#!/bin/busybox sh
# pid 1 of the guests (setup.sh packs it as /init). /vm/config and /vm/script come from run.sh.
export PATH=/usr/sbin:/usr/bin HOME=/root TERM=dumb LC_ALL=C DM_DISABLE_UDEV=1
B=/usr/bin/busybox
$B mount -t proc none /proc
$B mount -t sysfs none /sys
$B mount -t devtmpfs none /dev
$B mkdir -p /dev/shm /dev/pts /dev/mapper
for d in /tmp /run /dev/shm; do $B mount -t tmpfs none $d; done
$B ln -s /proc/self/fd /dev/fd
$B ln -s /proc/self/fd/0 /dev/stdin
$B ln -s /proc/self/fd/1 /dev/stdout
$B ln -s /proc/self/fd/2 /dev/stderr
# Opening one of these loads its module.
[ -e /dev/mapper/control ] || $B mknod /dev/mapper/control c 10 236
[ -e /dev/loop-control ] || $B mknod /dev/loop-control c 10 237
[ -e /dev/fuse ] || $B mknod /dev/fuse c 10 229
while read -r m; do
  $B insmod "$m" || echo "vm: insmod $m failed"
done <"/lib/modules/$($B uname -r)/vm.boot"
$B ip link set lo up 2>/dev/null
. /vm/config

# Ports and disks by name, since there is no udev.
for p in /sys/class/virtio-ports/*; do
  read -r n <"$p/name" 2>/dev/null || continue
  eval "PORT_${n#vm.}=/dev/${p##*/}"
done
mkdir -p /dev/vm
for d in /sys/block/vd*; do
  [ -e "$d/serial" ] || continue
  s=
  read -r s <"$d/serial" || true # it has no newline at its end
  [ -n "$s" ] || continue
  $B ln -s "/dev/${d##*/}" "/dev/vm/$s"
  eval "export DISK${s#disk}=/dev/${d##*/}"
done
i=0
for s in $VM_SHARES; do # kind:ro|rw
  $B mkdir -p /share/$i
  case ${s%:*} in
    9p) mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,cache=none,${s#*:}" share$i /share/$i ;;
    virtiofs) mount -t virtiofs -o "${s#*:}" share$i /share/$i ;;
  esac || echo "vm: share $i could not be mounted"
  i=$((i + 1))
done
if [ -z "$PORT_out" ] || [ -z "$PORT_status" ]; then
  echo "vm: virtio-serial ports are missing"
  echo b >/proc/sysrq-trigger
fi

cd /root
if [ "$(head -c2 /vm/script)" = '#!' ]; then set -- /vm/script; else set -- bash /vm/script; fi
"$@" </dev/null >"$PORT_out" 2>&1
rc=$?

# Disks are left clean even when the script did not care.
cd /
$B tac /proc/mounts | while read -r dev mp rest; do
  case $mp in
    / | /proc | /sys | /dev | /run | /tmp | /dev/* | /proc/* | /sys/*) ;;
    *) $B umount -l "$(printf "$mp")" 2>/dev/null ;;
  esac
done
$B sync
echo "exit $rc" >"$PORT_status"
echo b >/proc/sysrq-trigger
