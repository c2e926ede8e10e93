#!/bin/bash
# Install what is missing on this machine: install.sh demo|test|bench|bench-repo.
#
# Nothing is installed that is there already, so a second run is quick and needs
# no network. Where it cannot install, it names what is needed and stops.
set -euo pipefail

# An exact version: the checker must not change while the pages do not.
AXE=4.14.1
# The S3 server that the tests of locations start: internal/location/locationtest.
VERSITYGW=v1.8.0
# The JSON schema of OSCAL, which its authors publish in no registry; this module
# carries it, and nothing else of the module is used.
OSCAL=1.2.1
OSCAL_FROM=github.com/defenseunicorns/go-oscal@v0.7.1
# The peer of the repository's benchmark; borg is the distribution's.
RESTIC=v0.18.0

say() { echo "holdfast: $*" >&2; }

server() { # is there a PostgreSQL server of version 13 or newer?
	local d
	for d in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin; do
		[[ -x $d/postgres && -x $d/initdb ]] && return
	done
	command -v postgres >/dev/null && command -v initdb >/dev/null
}

# contrib carries the modules that check a restored database.
contrib() { compgen -G '/usr/share/postgresql/*/extension/amcheck.control' >/dev/null || compgen -G '/usr/pgsql-*/share/extension/amcheck.control' >/dev/null; }
browser() { [[ -n ${HOLDFAST_CHROMIUM:-} ]] || command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null
program() { command -v "$1" >/dev/null; }

missing=()
need() { # need PACKAGE CHECK...: the package is missing unless the check passes
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

install() {
	((${#missing[@]})) || return 0
	if ! command -v apt-get >/dev/null; then
		say "needed and not here: ${missing[*]} (names of Debian packages); there is no apt-get, so install them by hand"
		return 1
	fi
	if ((EUID != 0)); then
		say "needed and not here: ${missing[*]}; run this as root:"
		say "    apt-get update && apt-get install ${missing[*]}"
		return 1
	fi
	say "installing ${missing[*]}"
	local log
	log=$(mktemp)
	if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
		tail -n 30 "$log" >&2
		rm -f "$log"
		say "apt-get could not install ${missing[*]}"
		return 1
	fi
	rm -f "$log"
}

# axe checks in the browser whether a page shuts somebody out.
axe() {
	local file=${HOLDFAST_AXE:-$HOLDFAST_TEST_TOOLS/axe.min.js}
	if [[ -f $file ]] && head -c 200 "$file" | grep -qF "axe v$AXE"; then
		return
	fi
	say "fetching axe-core $AXE"
	mkdir -p "$HOLDFAST_TEST_TOOLS" "$(dirname "$file")"
	# npm brings its own list of authorities; a company's own stands in the system's.
	NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt} \
		npm install --prefix "$HOLDFAST_TEST_TOOLS" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error "axe-core@$AXE" </dev/null >&2
	cp "$HOLDFAST_TEST_TOOLS/node_modules/axe-core/axe.min.js" "$file.new"
	mv "$file.new" "$file"
}

# objectstore builds the S3 server that tests run against.
objectstore() {
	local dir=$HOLDFAST_TEST_TOOLS/versitygw-$VERSITYGW
	[[ -x $dir/versitygw ]] && return
	say "building versitygw $VERSITYGW, which takes some minutes"
	mkdir -p "$dir"
	(cd "$dir" && GOFLAGS='' CGO_ENABLED=0 GOBIN=$dir go install "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW") >&2
}

oscal() {
	local file=$HOLDFAST_TEST_TOOLS/oscal-$OSCAL.json source
	[[ -s $file ]] && return
	say "fetching the schema of OSCAL $OSCAL"
	mkdir -p "$HOLDFAST_TEST_TOOLS"
	source=$(cd / && GOFLAGS='' go mod download -json "$OSCAL_FROM" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	command install -m 0644 "$source/src/internal/schemas/oscal_complete_schema-${OSCAL//./-}.json" "$file"
}

# restic is built where its source lies: a module source need not list versions, so
# "go install" cannot look for a newer one.
restic() {
	local program=$HOLDFAST_TEST_TOOLS/restic-$RESTIC/restic source
	[[ -x $program ]] && return
	say "building restic $RESTIC, which takes a minute or two"
	source=$(cd / && GOFLAGS='' go mod download -json "github.com/restic/restic@$RESTIC" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	(cd "$source" && GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -o "$program" ./cmd/restic) >&2
}

case ${1:-} in
demo)
	need postgresql server
	install
	;;
test)
	: "${HOLDFAST_TEST_TOOLS:=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/holdfast-test-tools}"
	need postgresql server
	need postgresql-contrib contrib
	need chromium browser
	need openssh-client program ssh-keygen
	need openssh-server test -x /usr/sbin/sshd
	need openssl program openssl
	need python3 program python3
	need python3-cryptography python3 -c 'import cryptography'
	need zstd program zstd
	need npm program npm
	need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
	install
	axe
	oscal
	objectstore
	tools/test-postgres.sh
	;;
bench)
	need postgresql server
	need postgresql-contrib contrib
	need pgbackrest program pgbackrest
	install
	;;
bench-repo)
	: "${HOLDFAST_TEST_TOOLS:=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/holdfast-test-tools}"
	need borgbackup program borg
	install
	restic
	;;
*)
	say "usage: tools/install.sh demo|test|bench|bench-repo"
	exit 2
	;;
esac
