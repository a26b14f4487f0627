#!/bin/sh
# Everything that make needs: system headers, a private .venv, the package in it.
#
#   setup.sh          what a user needs
#   setup.sh check    what the tests need too; as root also the real peers (smtp-source, nsd, swaks ...)
#   setup.sh fuzz     what the tests need, without peers, and atheris where it has a wheel for this Python
#   setup.sh python   what an installation needs of the system; prints the Python to take
#   setup.sh clean    remove all of it
#
# Run by root, the daemons become other users, who must be able to execute the interpreter and to read
# the package. So a Python that all may execute is chosen, and where the checkout can't be reached by
# others (as below /root), .venv, the package and ./run live in /var/lib/meta1g/dev instead.
set -eu
umask 022
here=$(pwd -P)
mode=${1:-}
node=/var/lib/meta1g/dev/node # npm's packages
tools=/var/lib/meta1g/dev/peers # programs whose packages can't be installed beside the others

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# Whether everybody may pass through (or read) every folder on the way to $1.
reachable() {
    step=$(readlink -f "$1") || return 1
    while [ "$step" != / ]; do
        perms=$(stat -c %a "$step")
        case "$perms" in *[1357]) ;; *) return 1 ;; esac
        step=$(dirname "$step")
    done
}

state=$here
if is_root && ! reachable "$here"; then
    state=/var/lib/meta1g/dev/$(printf %s "$here" | cksum | cut -d' ' -f1)
fi

clean() {
    if [ -s run/spool/mcp.status ]; then
        fail "an instance may be running; stop it with: .venv/bin/meta1g-ctl -f run/etc/meta1.conf stop"
    fi
    rm -rf .venv run build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
    [ "$state" = "$here" ] || rm -rf "$state"
}

usable() { # prints the real path of a Python that will do
    path=$(command -v "$1" 2>/dev/null) || return 1
    path=$("$path" -c 'import os, sys, venv, ensurepip; assert sys.version_info >= (3, 11)
print(os.path.realpath(sys.executable))' 2>/dev/null) || return 1
    ! is_root || reachable "$path" || return 1
    echo "$path"
}

pick_python() {
    for candidate in ${PYTHON:-} /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
        found=$(usable "$candidate") && { echo "$found"; return; }
        [ "$candidate" != "${PYTHON:-}" ] || say "setup: PYTHON=$candidate can't be used: it must be Python 3.11 or newer" \
            "with venv, and by root one that other users can execute too; looking for another"
    done
}

apt_update() {
    [ ! -e "$apt_fresh" ] || return 0
    apt-get update -qq >/dev/null || return 1
    mkdir -p "$(dirname "$apt_fresh")" && touch "$apt_fresh"
}

apt_install() {
    apt_update || return 1
    # Packages start no services here: nothing of theirs may take a port or change the machine's mail.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy && made=1; fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && code=0 || code=1
    [ -z "$made" ] || rm -f $policy
    return $code
}

system_packages() {
    missing=
    [ -e /usr/include/db.h ] || missing="$missing libdb5.3-dev"
    command -v cc >/dev/null || missing="$missing gcc"
    [ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
    [ -n "$(pick_python)" ] || missing="$missing python3 python3-venv python3-dev"
    case "$(pick_python)" in
        /usr/bin/*) [ -e "$("$(pick_python)" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
            missing="$missing python3-dev" ;;
    esac
    [ -n "$missing" ] || return 0
    if is_root && command -v apt-get >/dev/null; then
        say "setup: installing$missing"
        # shellcheck disable=SC2086
        apt_install $missing || fail "could not install$missing"
    else
        fail "these are needed to build the Berkeley DB module; install them with:
    sudo apt-get install -y$missing"
    fi
}

unpack_makemap() { # sendmail-bin conflicts with postfix, but this one program needs nothing of it
    PATH=$PATH:/usr/sbin command -v makemap >/dev/null && return 0
    say "setup: unpacking makemap from sendmail-bin"
    mkdir -p $tools && chmod 755 /var/lib/meta1g /var/lib/meta1g/dev $tools || return 1
    unpacked=$(mktemp -d) || return 1
    if (apt_update && cd "$unpacked" && apt-get download -qq sendmail-bin && dpkg -x sendmail-bin_*.deb .) \
            >/dev/null 2>&1; then
        cp "$unpacked/usr/libexec/sendmail/makemap" $tools/ 2>/dev/null ||
            cp "$unpacked/usr/lib/sm.bin/makemap" $tools/ && code=0 || code=1
    else
        code=1
    fi
    rm -rf "$unpacked"
    return $code
}

add_nodemailer() {
    say "setup: installing nodemailer for the tests"
    mkdir -p $node && npm install --silent --no-fund --no-audit --prefix $node nodemailer >/dev/null 2>&1 ||
        say "setup: could not install nodemailer; what needs it is skipped"
}

peers() {
    is_root && command -v apt-get >/dev/null || return 0
    missing=
    for pair in swaks:swaks smtp-source:postfix nsd:nsd unbound:unbound ldns-signzone:ldnsutils dig:dnsutils cdb:tinycdb \
            db5.3_verify:db5.3-util strace:strace eatmydata:eatmydata mkfs.ext4:e2fsprogs redis-server:redis-server \
            curl:curl msmtp:msmtp opendkim:opendkim gsasl:gsasl dovecot:dovecot-core saslauthd:sasl2-bin \
            rspamd:rspamd clamd:clamav-daemon clamav-milter:clamav-milter spamd:spamd spamass-milter:spamass-milter \
            testssl:testssl.sh mandoc:mandoc; do
        PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
    done
    [ -e /usr/lib/dovecot/lmtp ] || missing="$missing dovecot-lmtpd"
    [ -e /usr/lib/postfix/postfix-lmdb.so ] || missing="$missing postfix-lmdb"
    /usr/bin/python3 -c 'import Milter' 2>/dev/null || missing="$missing python3-milter"
    perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl" # TLS of swaks
    perl -MAuthen::SASL -MDigest::HMAC_MD5 -e 1 2>/dev/null || # CRAM-MD5 and DIGEST-MD5 of swaks
        missing="$missing libauthen-sasl-perl libdigest-hmac-perl"
    [ -e $node/node_modules/nodemailer ] || ! command -v npm >/dev/null || add_nodemailer
    [ -x $tools/makemap ] || unpack_makemap || say "setup: could not get makemap; what needs it is skipped"
    [ -n "$missing" ] || return 0
    say "setup: installing the peers that tests need:$missing"
    # shellcheck disable=SC2086
    apt_install $missing || say "setup: could not install all of$missing; what needs them is skipped"
}

stale() { # whether $1 is missing or older than what the package is made of
    [ ! -e "$1" ] || [ -n "$(find setup.py pyproject.toml -newer "$1")" ]
}

venv() {
    mkdir -p "$state"
    if [ "$state" != "$here" ]; then
        chmod 755 /var/lib/meta1g /var/lib/meta1g/dev "$state"
        for name in .venv run; do [ -L $name ] || { rm -rf $name; mkdir -p "$state/$name"; ln -s "$state/$name" $name; }; done
        rm -rf "$state/source.new" && mkdir -p "$state/source.new"
        cp -R setup.py pyproject.toml meta1g "$state/source.new"
        rm -rf "$state/source" && mv "$state/source.new" "$state/source"
    fi
    source=$state; [ "$state" = "$here" ] || source=$state/source
    want=user; case "$mode" in check|fuzz) want=dev ;; esac
    mark=.venv/meta1g-$want
    if [ "$want" = user ] && ! stale .venv/meta1g-dev; then return; fi
    stale "$mark" || return 0
    python=$(pick_python)
    [ -n "$python" ] || fail "no Python 3.11 or newer that all users may execute; install python3 and python3-venv, or set PYTHON="
    if [ ! -x .venv/bin/python ]; then
        say "setup: making .venv with $python"
        "$python" -m venv "$state/.venv"
    fi
    "$state/.venv/bin/python" -m pip install -q --disable-pip-version-check 'setuptools>=61' wheel ||
        fail "pip can't install packages; is PyPI or a mirror of it configured?"
    extra=; [ "$want" = dev ] && extra='[dev]'
    say "setup: installing the package$extra"
    "$state/.venv/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation -e "$source$extra" 2>"$state/pip.log" ||
        { cat "$state/pip.log" >&2; fail "pip could not install the package"; }
    rm -f "$state/pip.log"
    touch "$mark"
}

apt_fresh=/var/lib/meta1g/dev/apt-updated
[ "$mode" != python ] || apt_fresh=/var/lib/apt/meta1g-updated
case "$mode" in
    clean) clean; exit 0 ;;
    check) peers ;;
esac
system_packages
if [ "$mode" = python ]; then pick_python; exit 0; fi
venv
if [ "$mode" = fuzz ] && ! .venv/bin/python -c 'import atheris' 2>/dev/null; then
    .venv/bin/python -m pip install -q --disable-pip-version-check --only-binary atheris 'meta1g[fuzz]' ||
        say "setup: atheris can't be installed; hypothesis takes its place"
fi
