#!/bin/bash
# setup.sh [KERNEL…]: what run.sh needs to boot Debian kernels under QEMU.
#
#   KERNEL  bookworm  6.1     bpo  6.12 (bookworm-backports)     trixie  6.12     sid  7.x
#           default: bookworm bpo sid
#   makes   VM/base/root.N.cpio     the guests' programs: this machine's own, as an initramfs
#           VM/kernels/KERNEL       vmlinux, initrd.cpio (programs and modules), config, release
#           VM/accel                kvm or tcg: what really works here
#   where   VM is $VENEER_VM, else .cache/vm of the project
#
# Kernels come through this machine's own apt mirror (MIRROR= overrides). Packages that are missing are
# installed when this is root. Whatever is there costs nothing; it appears complete or not at all.
set -Eeuo pipefail
trap 'echo "vm: setup.sh failed at line $LINENO: $BASH_COMMAND" >&2' ERR
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCRIPTS=$HERE/../../scripts
VM=${VENEER_VM:-$HERE/../../.cache/vm}
mkdir -p "$VM/base" "$VM/kernels"
VM=$(cd "$VM" && pwd)
STAMP=1 # another number makes every cached initramfs anew

say() { printf 'vm: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

suite_of() {
  case $1 in
    bookworm | trixie | sid) echo "$1" ;;
    bpo) echo bookworm-backports ;;
    *) die "no kernel is called $1; there are: bookworm bpo trixie sid" ;;
  esac
}
ready() { [ -e "$VM/kernels/$1/complete.$STAMP" ]; }

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(bookworm bpo sid)
for kernel in "${wanted[@]}"; do suite_of "$kernel" >/dev/null; done

# Modules for the initramfs; what they depend on comes along, and what a kernel has built in or lacks is passed over.
MODULES=(udf isofs loop overlay erofs squashfs ext4 vfat nls_utf8 nls_cp437 nls_ascii nls_iso8859-1
  fuse virtiofs 9p 9pnet_virtio dm-mod dm-verity dm-snapshot sd_mod virtio_scsi virtio_pci virtio_blk virtio_console
  crc32c_generic crc32c-intel crc32c-cryptoapi sha256_generic sha512_generic sha256-ssse3 crc-itu-t
  lz4_decompress zstd_decompress)
BOOT_MODULES=(virtio_pci virtio_blk virtio_console) # loaded by init, in order
# The first of each name on this machine; busybox stands in for everything else.
PROGRAMS=(bash mount umount mountpoint fallocate setpriv flock losetup blkid lsblk blockdev findmnt dmesg unshare
  nsenter wipefs stat ls cat cp mv rm ln mkdir rmdir mknod mkfifo touch chmod chown dd df du sync truncate head tail
  wc sort uniq tr cut od sha256sum md5sum cmp readlink realpath sleep timeout env printf tee date id uname basename
  dirname seq test expr mktemp find xargs grep sed diff getfattr setfattr modprobe insmod rmmod lsmod depmod modinfo
  veritysetup dmsetup fsverity mke2fs mkfs.ext4 tune2fs debugfs e2fsck dumpe2fs lsattr chattr mkudffs udfinfo
  udflabel mkfs.erofs dump.erofs fsck.erofs mksquashfs unsquashfs)

exec 9>"$VM/.lock"
flock 9

install_packages() {
  local package missing=()
  for package in $(sed -n 's/^vm: //p' "$SCRIPTS/packages.txt"); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "needs root to install: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  local install=(apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}")
  # The package lists may be missing or too old for the mirror.
  "${install[@]}" >/dev/null 2>&1 || { apt-get -qq update >&2 && "${install[@]}" >/dev/null; }
}

pack() { (cd "$1" && find . -mindepth 1 -print0 | sort -z | cpio -0 -o -H newc -R 0:0 --quiet); }

build_base() {
  local out=$VM/base/root.$STAMP.cpio root program path library applet
  [ ! -e "$out" ] || return 0
  say "making the guests' initramfs"
  root=$work/base
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{proc,sys,dev,run,tmp,mnt,etc,root,var,vm,share}
  for path in bin sbin lib lib64; do ln -s "usr/$path" "$root/$path"; done
  ln -s /proc/mounts "$root/etc/mtab"
  echo 'root:x:0:0:root:/root:/bin/bash' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  cp -L "$(command -v busybox)" "$root/usr/bin/busybox"
  local -A libraries=()
  for program in "${PROGRAMS[@]}"; do
    path=$(PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin type -P "$program") || { say "no $program here"; continue; }
    case $path in */sbin/*) cp -L "$path" "$root/usr/sbin/$program" ;; *) cp -L "$path" "$root/usr/bin/$program" ;; esac
    while read -r library; do libraries[$library]=1; done < <("$HERE/libraries.sh" "$path")
  done
  for library in "${!libraries[@]}"; do
    case $library in */ld-linux*) cp -L "$library" "$root/usr/lib64/" ;; *) cp -L "$library" "$root/usr/lib/" ;; esac
  done
  for applet in $("$root/usr/bin/busybox" --list); do
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
  done
  ln -sf /usr/bin/busybox "$root/usr/bin/sh"
  install -m 755 "$HERE/init.sh" "$root/init"
  pack "$root" >"$work/root.cpio"
  mv "$work/root.cpio" "$out"
}

# A bzImage names the place of its compressed ELF in the setup header (Documentation/arch/x86/boot.rst); QEMU boots
# that ELF through PVH, which spares it the real-mode part.
unpack_kernel() { # unpack_kernel BZIMAGE ELF
  local setup_sectors payload length offset
  number() { od -An -t"$3" -j "$(($2))" -N"${3#u}" "$1" | tr -d ' '; }
  setup_sectors=$(number "$1" 0x1f1 u1)
  [ "$setup_sectors" != 0 ] || setup_sectors=4
  payload=$(number "$1" 0x248 u4)
  length=$(number "$1" 0x24c u4)
  offset=$(((setup_sectors + 1) * 512 + payload))
  body() { tail -c +$((offset + 1)) "$1" | head -c "$2"; }
  # The last four bytes are the unpacked size, which xz and zstd would call garbage behind the end.
  case $(od -An -tx1 -j "$offset" -N4 "$1" | tr -d ' ') in
    fd377a58) body "$1" $((length - 4)) | xz -dc >"$2" || true ;;
    28b52ffd) body "$1" $((length - 4)) | zstd -dcq >"$2" || true ;;
    02214c18) body "$1" $((length - 4)) | lz4 -dcq >"$2" || true ;;
    1f8b*) body "$1" $((length - 4)) | gzip -dc >"$2" || true ;;
    *) body "$1" "$length" >"$2" ;;
  esac
  [ "$(od -An -tx1 -N4 "$2" | tr -d ' ')" = 7f454c46 ] || die "no ELF came out of $1"
}

# The files behind modules and all they depend on, in the order of loading.
module_files() { # module_files ROOT VERSION MODULE…
  local root=$1 version=$2 module
  shift 2
  for module in "$@"; do
    { modprobe -q -d "$root" -S "$version" --show-depends "$module" 2>/dev/null || true; } |
      sed -nE 's/^insmod ([^ ]+).*/\1/p'
  done | awk '!seen[$0]++'
}

copy_modules() { # copy_modules ROOT VERSION INTO
  local root=$1 version=$2 into=$3/usr/lib/modules/$2 file plain
  mkdir -p "$into"
  ln -s usr/lib "$3/lib"
  while read -r file; do
    plain=${file#"$root/lib/modules/$version/"}
    plain=$into/${plain%.?z*}
    case $file in *.xz | *.zst | *.gz) ;; *) plain=$into/${file#"$root/lib/modules/$version/"} ;; esac
    mkdir -p "${plain%/*}"
    case $file in
      *.xz) xz -dc "$file" >"$plain" ;;
      *.zst) zstd -dcq "$file" >"$plain" ;;
      *.gz) gzip -dc "$file" >"$plain" ;;
      *) cp "$file" "$plain" ;;
    esac
  done < <(module_files "$root" "$version" "${MODULES[@]}")
  for file in modules.order modules.builtin modules.builtin.modinfo; do
    if [ -e "$root/lib/modules/$version/$file" ]; then cp "$root/lib/modules/$version/$file" "$into/"; fi
  done
  depmod -b "$3" "$version"
  module_files "$3" "$version" "${BOOT_MODULES[@]}" | sed "s#^$3/lib/#/usr/lib/#" >"$into/vm.boot"
}

build_kernel() {
  local kernel=$1 package part version files=$work/$1 new=$work/$1.new modules=$work/$1.modules image config
  ready "$kernel" && return 0
  private_apt "$work/apt-$kernel" "$(suite_of "$kernel")"
  package=$(apt-cache "${APT[@]}" show --no-all-versions linux-image-amd64 |
    sed -nE 's/^Depends:.*(linux-image-[0-9][^ ,]*).*/\1/p' | sed -n 1p)
  [ -n "$package" ] || die "no kernel behind linux-image-amd64 of $kernel"
  version=${package#linux-image-}
  say "fetching $package"
  mkdir -p "$files/debs" "$files/lib" "$new"
  # Newer kernels come in parts.
  local parts=("$package")
  for part in "linux-binary-$version" "linux-modules-$version" "linux-base-$version"; do
    if apt-cache "${APT[@]}" show "$part" >/dev/null 2>&1; then parts+=("$part"); fi
  done
  (cd "$files/debs" && apt-get -qq "${APT[@]}" download "${parts[@]}")
  for part in "$files"/debs/*.deb; do dpkg-deb -x "$part" "$files"; done
  [ -d "$files/lib/modules" ] || ln -s ../usr/lib/modules "$files/lib/modules"
  image=$(find "$files" -name 'vmlinuz*' -type f | sed -n 1p)
  [ -n "$image" ] && [ -d "$files/lib/modules/$version" ] || die "no kernel or no modules in $package"
  depmod -b "$files" "$version"
  copy_modules "$files" "$version" "$modules"
  (cd "$modules/usr/lib/modules/$version" && find . -name '*.ko' | sed 's#.*/##; s#\.ko$##' | sort) >"$new/modules.txt"
  unpack_kernel "$image" "$new/vmlinux"
  config=$(find "$files" \( -path '*/boot/config-*' -o -path "*/modules/$version/config" \) | sed -n 1p)
  if [ -n "$config" ]; then cp "$config" "$new/config"; fi
  echo "$version" >"$new/release"
  # The programs first: they bring the directories.
  { cat "$VM/base/root.$STAMP.cpio"; pack "$modules"; } >"$new/initrd.cpio"
  : >"$new/complete.$STAMP"
  rm -rf "${VM:?}/kernels/$kernel"
  mv "$new" "$VM/kernels/$kernel"
}

# /dev/kvm may be there and useless (a nested one can be slower than TCG), so it is tried.
find_accelerator() {
  [ ! -e "$VM/accel" ] || return 0
  local accel=tcg status=0
  if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    echo 'exit 42' >"$work/probe"
    "$HERE/run.sh" --accel kvm --kernel "$1" --timeout 10 --script "$work/probe" >/dev/null 2>&1 || status=$?
    if [ "$status" = 42 ]; then accel=kvm; fi
  fi
  echo "$accel" >"$VM/accel"
  say "accelerator: $accel"
}

install_packages
work=$(mktemp -d "$VM/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
. "$SCRIPTS/private-apt.sh"
build_base
for kernel in "${wanted[@]}"; do build_kernel "$kernel"; done
find_accelerator "${wanted[0]}"
