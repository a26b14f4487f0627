#!/bin/sh
# make install / make uninstall: a virtual environment below PREFIX and MeTA1's layout (M1 2.4).
#
#   PREFIX       /usr/local            programs; the package lives in PREFIX/lib/meta1g
#   META1CONFDIR /etc/meta1            configuration
#   MTAQDIR      /var/spool/meta1      queue
#   MTALOGDIR    /var/log/meta1        log files
set -eu
umask 022
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
home=$prefix/lib/meta1g
[ "$(id -u)" = 0 ] || { echo "install: only root can install; try: make run" >&2; exit 77; }
case ${1:-} in
    install)
        sh contrib/setup.sh
        python=$(readlink -f .venv/bin/python)
        rm -rf "$home.new" && mkdir -p "$prefix/lib"
        rm -rf "$home" && "$python" -m venv "$home"
        "$home/bin/python" -m pip install -q --disable-pip-version-check 'setuptools>=61' wheel
        "$home/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation .
        mkdir -p "$prefix/share/man"
        for page in man/*.[1-8]; do
            section=${page##*.}
            mkdir -p "$prefix/share/man/man$section" && install -m 644 "$page" "$prefix/share/man/man$section/"
        done
        "$home/bin/python" -m meta1g.cli.install install --prefix "$prefix" \
            --conf-dir "${DESTDIR:-}${META1CONFDIR:-/etc/meta1}" --queue-dir "${DESTDIR:-}${MTAQDIR:-/var/spool/meta1}" \
            --log-dir "${DESTDIR:-}${MTALOGDIR:-/var/log/meta1}" ;;
    uninstall)
        [ -x "$home/bin/python" ] && "$home/bin/python" -m meta1g.cli.install uninstall --prefix "$prefix"
        rm -rf "$home" ;;
    *) echo "usage: install.sh install|uninstall" >&2; exit 64 ;;
esac
