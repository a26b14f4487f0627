#!/bin/sh
# make install / make uninstall: a virtual environment below PREFIX and MeTA1's layout (M1 2.4).
#
#   PREFIX       /usr/local            programs; the package lives in PREFIX/lib/meta1g
#   DESTDIR                            put in front of all paths, for packages
#   META1CONFDIR /etc/meta1            configuration
#   MTAQDIR      /var/spool/meta1      queue
#   MTALOGDIR    /var/log/meta1        log files
#   USERS        yes                   no: users and groups must be there
#   SENDMAIL     no                    yes: sbin/sendmail and bin/newaliases, unless they are there
#   MTAS MTAQ MTAC MTAM MTA            users and groups: meta1s meta1q meta1c meta1m meta1
#   MTALG        operator              group of the log files
set -eu
umask 022
dest=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
home=$dest$prefix/lib/meta1g
[ "$(id -u)" = 0 ] || { echo "install: only root can install; try: make run" >&2; exit 77; }
case ${1:-} in
    install)
        python=$(sh contrib/setup.sh python)
        mkdir -p "$(dirname "$home")"
        # An earlier version stays until this one is complete: without network, say, it goes on to work.
        if [ -e "$home" ] && [ ! -e "$home.before" ]; then mv "$home" "$home.before"; fi
        trap 'rm -rf "$home"; [ ! -e "$home.before" ] || mv "$home.before" "$home"' EXIT
        trap 'exit 1' HUP INT TERM
        rm -rf "$home"
        "$python" -m venv "$home"
        [ ! -e "$home.before/installed" ] || cp "$home.before/installed" "$home/installed" # what it has put there
        "$home/bin/python" -m pip install -q --disable-pip-version-check 'setuptools>=61' wheel
        "$home/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation .
        rm -rf build ./*.egg-info
        MTALG=${MTALG:-} "$home/bin/python" -m meta1g.cli.install install --destdir "$dest" --prefix "$prefix" \
            --conf-dir "${META1CONFDIR:-/etc/meta1}" --queue-dir "${MTAQDIR:-/var/spool/meta1}" \
            --log-dir "${MTALOGDIR:-/var/log/meta1}" --man man \
            "$([ "${USERS:-yes}" = no ] && echo --no-users || echo --users)" \
            "$([ "${SENDMAIL:-no}" = yes ] && echo --sendmail || echo --no-sendmail)"
        trap - EXIT HUP INT TERM
        rm -rf "$home.before"
        # they name the folder where they will be, not where they are built
        [ -z "$dest" ] || grep -lIr "$dest" "$home/bin" "$home/pyvenv.cfg" | xargs sed -i "s|$dest||g" ;;
    uninstall)
        [ ! -x "$home/bin/python" ] || "$home/bin/python" -m meta1g.cli.install uninstall --prefix "$dest$prefix"
        rm -rf "$home" ;;
    *) echo "usage: install.sh install|uninstall" >&2; exit 64 ;;
esac
