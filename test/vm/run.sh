#!/bin/bash
# run.sh [OPTION…] --script FILE (or -c COMMANDS): boots a kernel under QEMU, runs one script in it as root,
# prints what it prints (stdout and stderr together) and exits with its status.
#
#   --kernel NAME          bookworm, bpo, trixie or sid, made by setup.sh; default: bookworm
#   --disk FILE[:FORMAT][:ro|:snap][:bs=N]
#                          the next virtio disk, $DISK0, $DISK1 … in the script, /dev/vm/disk0 …
#                          FORMAT raw (default), vmdk, qcow2 …; ro = read-only device; snap = writable, and what is
#                          written is thrown away; bs = logical block size
#   --share DIR[:ro]       a directory, mounted at /share/0, /share/1 … (9p; virtiofs where the kernel has no 9p)
#   --file HOST[:GUEST]    copies a file or tree into the guest's memory (default /vm/files/NAME)
#   --timeout SECONDS      for the whole run, default 120
#   --mem MIB              default 512
#   --accel kvm|tcg        default: what setup.sh found to work
#   --append ARGUMENTS     more kernel parameters
#   --console FILE         keeps the kernel's console there (its end is shown anyway when the machine fails)
#
# Exit status: the script's own, 124 timeout, 125 the machine failed (reason and end of the console on stderr).
# Needs no privileges.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VM=${VENEER_VM:-$HERE/../../.cache/vm}
say() { printf 'vm: %s\n' "$*" >&2; }
bad() { say "$*"; exit 125; }

kernel=bookworm script='' commands='' timeout=120 memory=512 accel='' append='' console=''
disks=() shares=() files=()
while [ $# -gt 0 ]; do
  case $1 in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
  [ $# -ge 2 ] || bad "$1 needs a value"
  case $1 in
    --kernel) kernel=$2 ;;
    --disk) disks+=("$2") ;;
    --share) shares+=("$2") ;;
    --file) files+=("$2") ;;
    --script) script=$2 ;;
    -c) commands=$2 ;;
    --timeout) timeout=$2 ;;
    --mem) memory=$2 ;;
    --accel) accel=$2 ;;
    --append) append=$2 ;;
    --console) console=$2 ;;
    *) bad "unknown option $1" ;;
  esac
  shift 2
done
K=$VM/kernels/$kernel
[ -e "$K/vmlinux" ] || bad "there is no kernel in $K: run test/vm/setup.sh $kernel"
[ -n "$commands" ] || [ -r "$script" ] || bad "no --script"
[ -n "$accel" ] || accel=$(cat "$VM/accel" 2>/dev/null || echo tcg)

W=$(mktemp -d "${TMPDIR:-/tmp}/veneer-vm.XXXXXX") || exit 125
qemu='' followers=() servers=()
cleanup() {
  if [ -n "$qemu" ]; then { kill "$qemu"; wait "$qemu"; } 2>/dev/null; fi
  local pid
  for pid in ${servers[@]+"${servers[@]}"} ${followers[@]+"${followers[@]}"}; do kill "$pid" 2>/dev/null; done
  rm -rf "$W"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

quote() { printf '%s' "${1//,/,,}"; } # a path inside a QEMU option
Q=(qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -monitor none -M pc -m "$memory" -smp 1)
case $accel in
  kvm) Q+=(-accel kvm -cpu host,-arch-capabilities) ;;
  # A plain CPU boots faster under TCG than "max"; rdrand feeds the guest's random numbers.
  tcg) Q+=(-accel tcg,tb-size=256 -cpu Nehalem,+rdrand) ;;
  *) bad "unknown accelerator $accel" ;;
esac

n=0
for disk in ${disks[@]+"${disks[@]}"}; do
  file=$disk format=raw mode='' block=''
  while :; do
    case $file in
      *:ro) mode=ro; file=${file%:ro} ;;
      *:snap) mode=snap; file=${file%:snap} ;;
      *:bs=*) block=${file##*:bs=}; file=${file%:bs=*} ;;
      *:raw | *:vmdk | *:qcow2 | *:vdi | *:vpc | *:vhdx) format=${file##*:}; file=${file%:*} ;;
      *) break ;;
    esac
  done
  [ -r "$file" ] || bad "cannot read disk $file"
  drive="file=$(quote "$(realpath "$file")"),format=$format,if=none,id=d$n,cache=unsafe"
  case $mode in ro) drive+=,readonly=on ;; snap) drive+=,snapshot=on ;; esac
  Q+=(-drive "$drive" -device
    "virtio-blk-pci,drive=d$n,serial=disk$n${block:+,logical_block_size=$block,physical_block_size=$block}")
  n=$((n + 1))
done

n=0 kinds=
for share in ${shares[@]+"${shares[@]}"}; do
  mode=rw
  case $share in *:ro) mode=ro; share=${share%:ro} ;; esac
  [ -d "$share" ] || bad "no directory $share"
  if grep -qx 9p "$K/modules.txt"; then
    kind=9p
    Q+=(-fsdev "local,id=s$n,path=$(quote "$share"),security_model=none,multidevs=remap$([ $mode = rw ] || echo ,readonly=on)"
      -device "virtio-9p-pci,fsdev=s$n,mount_tag=share$n")
  else
    kind=virtiofs socket=$W/share$n.sock
    /usr/lib/qemu/virtiofsd --socket-path="$socket" -o source="$share",xattr,sandbox=chroot 2>"$W/share$n.log" &
    servers+=($!)
    for _ in $(seq 100); do [ -S "$socket" ] && break; sleep 0.05; done
    [ -S "$socket" ] || bad "virtiofsd did not start: $(cat "$W/share$n.log")"
    [ $n != 0 ] || Q+=(-object "memory-backend-memfd,id=ram,size=${memory}M,share=on" -machine memory-backend=ram)
    Q+=(-chardev "socket,id=v$n,path=$socket" -device "vhost-user-fs-pci,chardev=v$n,tag=share$n")
  fi
  kinds+="$kind:$mode "
  n=$((n + 1))
done

# The script and its settings are a second archive behind the cached one.
mkdir -p "$W/x/vm/files"
if [ -n "$commands" ]; then printf '%s\n' "$commands" >"$W/x/vm/script"; else cat -- "$script" >"$W/x/vm/script"; fi
chmod 755 "$W/x/vm/script"
printf 'VM_SHARES="%s"\n' "$kinds" >"$W/x/vm/config"
for file in ${files[@]+"${files[@]}"}; do
  guest=vm/files/$(basename "${file%%:*}")
  case $file in *:*) guest=${file##*:} ;; esac
  mkdir -p "$W/x/$(dirname "$guest")"
  cp -aL "${file%%:*}" "$W/x/$guest" || bad "cannot copy $file"
done
{ cat "$K/initrd.cpio"; (cd "$W/x" && find . -mindepth 1 -print0 | cpio -0 -o -H newc -R 0:0 --quiet); } >"$W/initrd" ||
  bad "cannot make the initramfs"

# The output goes to plain files through virtio-serial, followed by tail. A file never pushes back, and with
# ioeventfd=off QEMU writes it inside the guest's own write(): nothing is lost when the guest resets, and a slow or
# closed stdout of ours cannot stall the guest.
: >"$W/status"
: >"$W/console"
: >"$W/out"
Q+=(-device virtio-serial-pci,ioeventfd=off,max_ports=8
  -chardev "file,id=out,path=$W/out" -device virtserialport,chardev=out,name=vm.out
  -chardev "file,id=status,path=$W/status" -device virtserialport,chardev=status,name=vm.status
  -serial "file:$W/console")
# A talkative console costs time under TCG; panics still show. reboot=t with -no-reboot is the way to end.
Q+=(-kernel "$K/vmlinux" -initrd "$W/initrd" -append "console=ttyS0 loglevel=4 panic=-1 reboot=t mitigations=off \
nokaslr no_timer_check apparmor=0 audit=0 cryptomgr.notests random.trust_cpu=on $append")

timeout -k 2 "$timeout" "${Q[@]}" </dev/null >"$W/qemu.log" 2>&1 &
qemu=$!
tail -c +1 -s 0.05 -f --pid="$qemu" "$W/out" 2>/dev/null &
followers+=($!)
{ wait "$qemu"; ended=$?; } 2>/dev/null # reaped here, which ends the follower
qemu=
{ wait "${followers[0]}"; } 2>/dev/null
followers=()

if [ -n "$console" ]; then cp "$W/console" "$console"; fi
status=$(sed -n 's/^exit \([0-9]*\)$/\1/p' "$W/status")
if [ -n "$status" ]; then exit "$status"; fi
if [ "$ended" = 124 ] || [ "$ended" = 137 ]; then
  say "timeout after $timeout s"
  status=124
else
  say "the machine ended without a status (QEMU: $ended)"
  status=125
fi
{
  sed 's/^/vm: qemu: /' "$W/qemu.log"
  tr -d '\r' <"$W/console" >"$W/plain"
  grep -E 'panic|BUG:|Oops|general protection|Out of memory|vm: ' "$W/plain" | head -n 10 | sed 's/^/vm: console: /'
  echo 'vm: console: …'
  tail -n 8 "$W/plain" | sed 's/^/vm: console: /'
} >&2
exit $status
