# layered: small and quick; seven layers over the debian base that say every kind of change. Needs no network once debian is there.
make_layered() {
  [ -e "$OUT/oci/debian/index.json" ] || make_debian
  need "${BUILD_PACKAGES[@]}"
  R=$B/layered
  rm -rf "$R" "$R.state" "${OUT:?}/tars/layered"
  mkdir -p "$R" "$OUT/tars/layered"
  tar -xpf "$OUT/tars/debian/00.tar" -C "$R" --xattrs --xattrs-include='*' --numeric-owner
  ln "$OUT/tars/debian/00.tar" "$OUT/tars/layered/00.tar"
  ln "$OUT/tars/debian/00.tar.json" "$OUT/tars/layered/00.tar.json"
  python3 "$LIB/oci.py" scan "$R" "$R.state"
  H=("debian base")

  mkdir -p "$R/opt/app/data" "$R/opt/app/cache/deep"
  for i in 1 2 3 4 5 6 7 8; do
    seq 1 $((i * 700)) >"$R/opt/app/data/list$i"
    echo "$i" >"$R/opt/app/cache/deep/$i"
  done
  echo alpha >"$R/opt/app/first"
  ln "$R/opt/app/first" "$R/opt/app/data/second"
  ln -s ../app/first "$R/opt/app/link"
  mkfifo "$R/opt/app/pipe"
  add_layer layered "COPY app"

  rm -rf "$R/opt/app/cache/deep" "$R/usr/share/zoneinfo" "$R/etc/skel"
  rm -f "$R/opt/app/data/list1" "$R/opt/app/data/list2"
  add_layer layered "RUN rm"

  mkdir "$B/fresh"
  echo new >"$B/fresh/only"
  replace_dir "$B/fresh" "$R/opt/app/data"
  rm -f "$R/opt/app/link"
  mkdir "$R/opt/app/link"
  echo inside >"$R/opt/app/link/file"
  rm -rf "$R/usr/share/common-licenses"
  echo 'a file now' >"$R/usr/share/common-licenses"
  rm -rf "$R/opt/app/cache"
  ln -s /var/cache "$R/opt/app/cache"
  add_layer layered "RUN replace: opaque directory, file to directory and back, directory to link"

  chown -R 1000:1000 "$R/opt/app"
  chown 70000:70001 "$R/opt/app/first"
  chmod 6755 "$R/opt/app/first"
  chmod 1777 "$R/opt/app/data"
  add_layer layered "RUN chown, chmod"

  mkdir -p "$R/opt/odd/deep" "$R/opt/odd/empty dir" "$R/etc/skel"
  echo again >"$R/etc/skel/.profile"
  echo hi >"$R/opt/odd/naïve-файл-日本.txt"
  printf 'x' >"$R/opt/odd/$(printf 'not\377utf8')"
  head -c 500000 /dev/zero >"$R/opt/odd/zeros"
  ln "$R/opt/odd/zeros" "$R/opt/odd/deep/zeros-too"
  : >"$R/opt/odd/$(printf 'n%.0s' $(seq 1 255))"
  ln -s "$(printf '../%.0s' $(seq 1 60))etc/passwd" "$R/opt/odd/long-link"
  ln -s /nonexistent "$R/opt/odd/dangling"
  mknod "$R/opt/odd/null" c 1 3
  mknod "$R/opt/odd/disk" b 259 70000
  python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.note", b"v1")' "$R/opt/odd/zeros"
  setcap cap_net_bind_service=+ep "$R/usr/bin/env"
  add_layer layered "RUN odd files"

  rm -f "$R/opt/odd/dangling" "$R/opt/odd/null"
  touch -d 2025-01-01 "$R/opt/app/first"
  add_layer layered "RUN touch"

  H+=('!CMD ["bash"]')
  write_image layered layered gzip "{\"Env\":[$PATH_ENV],\"Cmd\":[\"bash\"]}"
  rm -rf "$R" "$B/fresh"
}
