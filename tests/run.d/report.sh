# Running steps and test suites, and saying at the end what happened. Sourced by tests/run.

PASSED=0
FAILED=0
ROWS=()
LOGS=$(mktemp -d "${TMPDIR:-/tmp}/lanemesh-tests-run.XXXXXX")
trap 'rm -rf "$LOGS"' EXIT

row() { # name, result, seconds
  ROWS+=("$(printf '%-28s %-28s %6s s' "$1" "$2" "$3")")
}

# Runs a command that only prepares: its output is shown where it fails, and a failure counts as one failed test.
step() { # name, command...
  local name=$1 began=$SECONDS log="$LOGS/step"
  shift
  printf -- '--- %s ... ' "$name"
  if "$@" >"$log" 2>&1; then
    printf 'done in %s s\n' "$((SECONDS - began))"
    row "$name" done "$((SECONDS - began))"
  else
    printf 'FAILED after %s s: %s\n' "$((SECONDS - began))" "$*"
    tail -n 60 "$log"
    FAILED=$((FAILED + 1))
    row "$name" FAILED "$((SECONDS - began))"
    return 1
  fi
}

# Runs test binaries and counts what they report. A run that fails without a failed test, an ignored test and a run
# without tests count as failed: what did not run has not passed.
suite() { # name, limit in seconds, command...
  local name=$1 limit=$2 began=$SECONDS log="$LOGS/$1" passed failed ignored code
  shift 2
  printf -- '--- %s: %s\n' "$name" "$*"
  timeout --kill-after=30 "$limit" "$@" --color never 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  passed=$(grep -cE '^test .* \.\.\. ok$' "$log")
  failed=$(grep -cE '^test .* \.\.\. FAILED' "$log")
  ignored=$(grep -cE '^test .* \.\.\. ignored' "$log")
  if ((code == 124 || code == 137)); then
    printf 'stopped: %s did not end within %s s\n' "$name" "$limit"
    failed=$((failed + 1))
  fi
  if ((code != 0 && failed == 0)); then failed=1; fi
  if ((passed + failed == 0)); then failed=1; fi
  failed=$((failed + ignored))
  PASSED=$((PASSED + passed))
  FAILED=$((FAILED + failed))
  row "$name" "$passed passed, $failed failed" "$((SECONDS - began))"
}

summary() {
  printf '\n=== summary\n'
  printf '%s\n' "${ROWS[@]}"
  printf '%-28s %-28s %6s s\n' total '' "$SECONDS"
  printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
  ((FAILED == 0 && PASSED > 0))
}
