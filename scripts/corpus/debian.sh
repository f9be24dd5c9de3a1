# debian: a slim base, one layer; the quick one.
make_debian() {
  start_image debian
  H=("# debian.sh --arch amd64 out/ bookworm (minbase, slim)" '!CMD ["bash"]')
  write_image debian debian gzip "{\"Env\":[$PATH_ENV],\"Cmd\":[\"bash\"]}"
}
