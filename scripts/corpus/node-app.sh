# node-app: very many small files, thousands of whiteouts; one layer of 50,000 entries. node-app-zstd: the same, zstd.
NPM_BEFORE=${NPM_BEFORE:-2025-05-05} # npm resolves dependencies as of that day: the same tree every time
NODE_APP_CONFIG="{\"Env\":[$PATH_ENV,\"NODE_ENV=production\"],\"WorkingDir\":\"/app\",\"User\":\"1001\",\"Entrypoint\":[\"/usr/local/bin/docker-entrypoint.sh\"],\"ExposedPorts\":{\"3000/tcp\":{}}}"
NODE_APP_HISTORY=("debian base" "RUN apt-get install nodejs npm" '!ENV NODE_ENV=production' '!WORKDIR /app'
  "COPY package*.json" "RUN npm install" "COPY . ." "RUN prune maps, docs and tests" "RUN replace lodash, prettier"
  "RUN chown" "RUN build" "COPY entrypoint" '!USER 1001' '!EXPOSE 3000' '!ENTRYPOINT')

npm_install() { # npm_install DIRECTORY [PACKAGE…]
  (cd "$1" && shift && npm install --cache "$B/npm-cache" --before="$NPM_BEFORE" --ignore-scripts --no-audit --no-fund \
    --omit-lockfile-registry-resolved --no-update-notifier --os=linux --cpu=x64 --no-progress --loglevel=error "$@" >/dev/null)
}

make_node_app() {
  need "${BUILD_PACKAGES[@]}" npm
  start_image node-app
  local step
  step() { add_layer node-app "$1"; }
  apt_layer "$R" install nodejs npm ca-certificates
  step "RUN apt-get install nodejs npm"

  mkdir -p "$R/app"
  inroot "$R" useradd -r -u 1001 -m -d /home/app app
  cat >"$R/app/package.json" <<'END'
{"name":"node-app","version":"1.0.0","private":true,
 "dependencies":{"next":"15.3.1","react":"19.1.0","react-dom":"19.1.0","express":"4.21.2","lodash":"4.17.21","@aws-sdk/client-s3":"3.800.0","googleapis":"144.0.0","rxjs":"7.8.2","date-fns":"4.1.0","@mui/material":"7.0.2","@emotion/react":"11.14.0","@emotion/styled":"11.14.0"},
 "devDependencies":{"typescript":"5.8.3","eslint":"9.25.1","eslint-config-next":"15.3.1","jest":"29.7.0","webpack":"5.99.7","webpack-cli":"6.0.1","@babel/preset-env":"7.27.1","prettier":"3.5.3","@types/node":"22.15.3","@types/react":"19.1.2","storybook":"8.6.12"}}
END
  say "node-app: npm install (as of $NPM_BEFORE)"
  mkdir "$B/npm"
  cp "$R/app/package.json" "$B/npm/"
  npm_install "$B/npm"
  cp "$B/npm/package-lock.json" "$R/app/"
  step "COPY package*.json"
  rm -f "$B/npm/node_modules/.package-lock.json"
  chown -R 0:0 "$B/npm/node_modules"
  mv "$B/npm/node_modules" "$R/app/"
  step "RUN npm install"

  python3 "$LIB/node-app-sources.py" "$R/app"
  step "COPY . ."

  # thousands of single-file whiteouts and many directory whiteouts
  find "$R/app/node_modules" -type f \( -name '*.map' -o -name '*.md' \) -delete
  find "$R/app/node_modules" -depth -type d \( -name test -o -name tests -o -name docs -o -name example -o -name examples \) -exec rm -rf {} +
  step "RUN prune"

  # replaced directories (opaque), plain whiteouts in an older layer, type changes
  mkdir "$B/npm2"
  echo '{"private":true}' >"$B/npm2/package.json"
  npm_install "$B/npm2" lodash@4.17.20 prettier@3.4.2
  for module in lodash prettier; do
    chown -R 0:0 "$B/npm2/node_modules/$module"
    replace_dir "$B/npm2/node_modules/$module" "$R/app/node_modules/$module"
  done
  rm -rf "$R/usr/share/nodejs/npm/lib/commands" "$R/usr/share/nodejs/yargs" "$R/usr/bin/npx"
  rm -f "$R/app/public/img00.bin"
  mkdir "$R/app/public/img00.bin"
  echo dir-now >"$R/app/public/img00.bin/readme"
  rm -rf "$R/app/src/hooks"
  echo 'file now' >"$R/app/src/hooks"
  rm -rf "$R/app/src/utils"
  ln -s lib "$R/app/src/utils"
  step "RUN replace"

  chown -R 1001:1001 "$R/app/src" "$R/app/public"
  chmod -R go-w "$R/app/src"
  chmod 2775 "$R/app/public"
  step "RUN chown"

  mkdir -p "$R/app/.next/static/chunks"
  local i=0 file
  find "$R/app/node_modules" -name '*.js' -size +20k -size -900k | sort | sed -n '1~12p' | while read -r file; do
    i=$((i + 1))
    cp "$file" "$R/app/.next/static/chunks/$(printf %04d $i)-$(sha1sum <"$file" | cut -c1-16).js"
  done
  rm -rf "$R/app/src/pages" "$R/app/src/api"
  step "RUN build"

  mkdir -p "$R/usr/local/bin"
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nset -e\ncd /app\nexec node "${@:-server.js}"\n' >"$R/usr/local/bin/docker-entrypoint.sh"
  chmod 755 "$R/usr/local/bin/docker-entrypoint.sh"
  ln "$R/usr/local/bin/docker-entrypoint.sh" "$R/usr/local/bin/entry-hardlink"
  : >"$R/app/.empty"
  echo '{"port":3000}' >"$R/app/config.json"
  step "COPY entrypoint"

  H=("${NODE_APP_HISTORY[@]}")
  write_image node-app node-app gzip "$NODE_APP_CONFIG"
  rm -rf "$R" "$B/npm" "$B/npm2"
}

make_node_app_zstd() {
  [ -e "$OUT/oci/node-app/index.json" ] || make_node_app
  need zstd python3
  H=("${NODE_APP_HISTORY[@]}")
  write_image node-app-zstd node-app zstd "$NODE_APP_CONFIG"
}
