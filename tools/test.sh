#!/bin/bash
# Run every test of the project and end with a summary. A step that fails does
# not keep the later ones from running: one run shows all that is wrong.
#
# Run it with "make test", which installs what it needs first.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Tests start databases and browsers, which are the load; more packages at once
# than this only wait for each other.
parallel=${HOLDFAST_TEST_PARALLEL:-2}
limit=30m # for the tests of one package

results=()
failed=0

step() { # step NAME COMMAND...
	local name=$1 began=$SECONDS status=0
	shift
	echo "--- $name"
	"$@" </dev/null || status=$?
	if ((status == 0)); then
		results+=("$(printf 'pass  %4ds  %s' $((SECONDS - began)) "$name")")
	else
		results+=("$(printf 'FAIL  %4ds  %s (exit status %d)' $((SECONDS - began)) "$name" "$status")")
		failed=1
	fi
}

formatted() {
	local files
	files=$(find . -name '*.go' ! -name '*_templ.go' ! -path './.git/*' -exec gofmt -l {} +) || return
	[[ -z $files ]] || { echo "not formatted (gofmt -w mends it):"; echo "$files"; return 1; }
}

unit() {
	local packages
	packages=$(go list ./... | grep -v -e '^holdfast/test$' -e '^holdfast/test/' -e '^holdfast/internal/archtest$') || return
	# shellcheck disable=SC2086 # one word for each package
	go test -count=1 -p "$parallel" -timeout "$limit" $packages
}

story() {
	local out status=0
	out=$(mktemp)
	bin/holdfast demo --json >"$out" || status=$?
	cat "$out"
	if ((status == 0)); then
		for field in rows_acknowledged rows_recovered rows_lost rpo_seconds rto_seconds objective_rpo_seconds objective_rto_seconds \
			recovered_from_location drill_rung incident_id evidence_pack evidence_verified; do
			grep -q "\"$field\":" "$out" || { echo "the story does not tell $field"; status=1; }
		done
	fi
	rm -f "$out"
	return "$status"
}

began=$SECONDS
step "format" formatted
step "vet and lint" make --no-print-directory lint
step "layers" go test -count=1 ./internal/archtest
step "build" make --no-print-directory build
step "unit, conformance, PostgreSQL, command line, browser" unit
step "acceptance, by requirement" go run ./tools/requirements -quiet
step "the story" story

echo
echo "summary, after $((SECONDS - began))s:"
printf '  %s\n' "${results[@]}"
if ((failed)); then
	echo "  something failed"
else
	echo "  all passed"
fi
exit "$failed"
