# wordpressish: many layers, most of them tiny; odd names, xattrs, capabilities, FIFO, hard links.
make_wordpressish() {
  local image=wordpressish
  need "${BUILD_PACKAGES[@]}"
  start_image $image
  local step
  step() { add_layer wordpressish "$1"; }

  apt_layer "$R" install ca-certificates curl
  step "RUN apt-get install ca-certificates curl"
  apt_layer "$R" install apache2 libcap2-bin iputils-ping
  step "RUN apt-get install apache2"
  apt_layer "$R" install php8.2-cli libapache2-mod-php8.2
  step "RUN apt-get install php"
  local php=$R/etc/php/8.2/apache2/conf.d
  mkdir -p "$php"
  printf 'opcache.memory_consumption=128\nopcache.interned_strings_buffer=8\nopcache.max_accelerated_files=4000\nopcache.revalidate_freq=2\n' >"$php/opcache-recommended.ini"
  step "RUN opcache-recommended.ini"
  printf 'error_reporting = E_ERROR | E_WARNING | E_PARSE\ndisplay_errors = Off\nlog_errors = On\n' >"$php/error-logging.ini"
  step "RUN error-logging.ini"
  inroot "$R" a2enmod -q rewrite expires headers
  step "RUN a2enmod rewrite expires headers"
  printf 'RemoteIPHeader X-Forwarded-For\n' >"$R/etc/apache2/conf-available/remoteip.conf"
  inroot "$R" a2enconf -q remoteip
  step "RUN remoteip"
  apt_layer "$R" install php8.2-gd php8.2-mysql php8.2-xml php8.2-mbstring php8.2-zip php8.2-intl php8.2-curl php8.2-bcmath
  step "RUN apt-get install php extensions"
  apt_layer "$R" install wordpress wordpress-theme-twentytwentythree wordpress-theme-twentytwentytwo ghostscript
  step "RUN apt-get install wordpress"
  mkdir -p "$R/usr/src"
  cp -aL "$R/usr/share/wordpress" "$R/usr/src/wordpress" 2>/dev/null || cp -a "$R/usr/share/wordpress" "$R/usr/src/wordpress"
  step "COPY /usr/src/wordpress"
  replace_dir "$R/usr/src/wordpress" "$R/var/www/html"
  step "RUN replace /var/www/html"
  printf 'RewriteEngine On\nRewriteBase /\nRewriteRule ^index\\.php$ - [L]\n' >"$R/var/www/html/.htaccess"
  step "COPY .htaccess"
  # shellcheck disable=SC2016
  printf '<?php\n$_ENV["X"]=getenv("WORDPRESS_DB_HOST");\n' >"$R/usr/src/wordpress/wp-config-docker.php"
  step "COPY wp-config-docker.php"
  # shellcheck disable=SC2016
  printf '#!/bin/bash\nset -Eeuo pipefail\nexec "$@"\n' >"$R/usr/local/bin/docker-entrypoint.sh"
  chmod 755 "$R/usr/local/bin/docker-entrypoint.sh"
  step "COPY docker-entrypoint.sh"
  rm -rf "$R/var/www/html/wp-content/themes/"*two "$R/var/www/html/license.txt" "$R/var/www/html/readme.html" "$R/usr/src/wordpress/wp-content/themes/"*two
  step "RUN rm unused theme"
  inroot "$R" chown -R www-data:www-data /var/www/html/wp-content /var/www/html/wp-includes/css
  step "RUN chown -R www-data"
  chmod 1777 "$R/var/www/html/wp-content"
  step "RUN chmod 1777 wp-content"
  aptin "$R" purge --auto-remove curl
  apt_clean "$R"
  step "RUN apt-get purge curl"

  mkdir -p "$R/opt/odd/deep" "$R/opt/odd/empty dir"
  echo hi >"$R/opt/odd/naïve-файл-日本.txt"
  echo s >"$R/opt/odd/with space and 'quotes'"
  head -c 5000 /dev/zero >"$R/opt/odd/zeros"
  ln "$R/opt/odd/zeros" "$R/opt/odd/deep/zeros-hardlink"
  mkfifo "$R/opt/odd/fifo"
  printf x >"$R/opt/odd/suid"
  chmod 6755 "$R/opt/odd/suid"
  : >"$R/opt/odd/$(printf 'n%.0s' $(seq 1 255))"
  ln -s "$(printf '../%.0s' $(seq 1 60))etc/passwd" "$R/opt/odd/longlink"
  ln -s /nonexistent "$R/opt/odd/dangling"
  python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.note", b"v1")' "$R/opt/odd/zeros"
  setcap cap_net_bind_service=+ep "$R/usr/sbin/apache2"
  step "RUN odd files: xattr, caps, fifo, hard links, long and non-ASCII names"
  printf '#!/bin/sh\nexit 0\n' >"$R/usr/local/bin/healthcheck"
  chmod 755 "$R/usr/local/bin/healthcheck"
  step "COPY healthcheck"

  H+=('!ENTRYPOINT ["docker-entrypoint.sh"]' '!CMD ["apache2-foreground"]')
  write_image $image $image gzip "{\"Env\":[$PATH_ENV],\"Entrypoint\":[\"docker-entrypoint.sh\"],\"Cmd\":[\"apache2ctl\",\"-DFOREGROUND\"],\"Volumes\":{\"/var/www/html\":{}},\"WorkingDir\":\"/var/www/html\"}"
  rm -rf "$R"
}
