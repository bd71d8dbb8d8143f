# Steps of the examples: start the demo's mesh with an example's resources, send requests, show or check who served them.
# Sourced by each `run`; inside the mesh DEMO_ENTRY is where requests enter and DEMO_MESH_CTL the command line.

HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
CHECK=
for argument in "$@"; do
  case $argument in
    --check) CHECK=yes ;;
    *) echo "usage: $0 [--check]" >&2; exit 2 ;;
  esac
done

# Starts a mesh with the resources of the example, or of DEMO_RESOURCES, and with the Nacos servers of the file DEMO_NACOS,
# and runs it again inside; returns at once when inside.
mesh() { # [--without-application SERVICE] | SERVICE=LANE...
  [[ -z ${DEMO_ENTRY:-} ]] || return 0
  local repository binaries arguments=()
  repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  binaries=${DEMO_BINARIES:-}
  if [[ -z $binaries ]]; then
    command -v cargo >/dev/null || { echo "cargo is not installed; get a Rust toolchain, see https://rustup.rs" >&2; exit 2; }
    echo "building mesh-controller, mesh-proxy, mesh-ctl and demo-app (release)" >&2
    (cd "$repository" && cargo build --release --locked -p mesh-controller -p mesh-proxy -p mesh-ctl -p demo-app)
    binaries=${CARGO_TARGET_DIR:-$repository/target}/release
  fi
  while (($#)); do
    case $1 in
      --without-application) arguments+=("$1" "$2"); shift 2 ;;
      *) arguments+=(--instance "$1"); shift ;;
    esac
  done
  [[ -z ${DEMO_NACOS:-} ]] || arguments+=(--nacos "$DEMO_NACOS")
  exec "$binaries/mesh-ctl" demo --resources "${DEMO_RESOURCES:-$HERE/resources}" "${arguments[@]}" -- "$0" ${CHECK:+--check}
}

# Who served one request: `a/baseline b/canary c/baseline d/canary`, or what went wrong.
served() { # arguments of curl...
  curl --silent --show-error --max-time 20 --header 'host: a.demo:8080' "$@" "http://$DEMO_ENTRY/served"
}

# Who served one request of each line of standard input, which are values of a header; over one connection, in order.
served_each() { # name of the header
  local value
  while read -r value; do
    printf 'url = "http://%s/served"\nheader = "host: a.demo:8080"\nheader = "%s: %s"\nsilent\nshow-error\nnext\n' \
      "$DEMO_ENTRY" "$1" "$value"
  done | sed '$d' | curl --config -
}

ROWS=()
FAILED=0

# Notes what held: what the answer must be (a pattern of the shell), and what it was.
note() { # name, pattern, answer
  local verdict=pass shown=$3
  # A long answer is a nested failure; the pattern says what of it counts.
  ((${#shown} > 80)) && shown=$2
  # shellcheck disable=SC2053
  [[ $3 == $2 ]] || { verdict=FAIL; shown=${3:0:400}; FAILED=$((FAILED + 1)); }
  ROWS+=("$(printf '%s  %-62s %s' "$verdict" "$1" "$shown")")
}

# One request: shown with its answer, or checked.
step() { # name, pattern, arguments of curl...
  local name=$1 pattern=$2 answer
  shift 2
  answer=$(served "$@" 2>&1) || true
  note "$name" "$pattern" "$answer"
  [[ -n $CHECK ]] && return
  printf '\n%s\n  $ curl -H "host: a.demo:8080"' "$name"
  (($#)) && printf ' %s' "${@@Q}"
  printf ' http://%s/served\n  %s\n' "$DEMO_ENTRY" "$answer"
}

# As `step`, for what comes true within 20 s: a change on its way, a time that runs out.
step_soon() { # name, pattern, arguments of curl...
  local end=$((SECONDS + 20)) answer
  while ((SECONDS < end)); do
    answer=$(served "${@:3}" 2>&1) || true
    # shellcheck disable=SC2053
    [[ $answer == $2 ]] && break
    sleep 0.1
  done
  step "$@"
}

# A command of mesh-ctl, shown.
ctl() { # arguments...
  [[ -n $CHECK ]] || { printf '\n  $ mesh-ctl%s\n' "$(printf ' %s' "$@")"; }
  "$DEMO_MESH_CTL" "$@" >&2
}

# The table of what held and the exit code; without --check the mesh stays up to be tried.
finish() {
  if [[ -n $CHECK ]]; then
    printf '%s\n' "${ROWS[@]}"
    ((FAILED == 0)) && exit 0
    printf '\n%s of %s did not hold\n' "$FAILED" "${#ROWS[@]}"
    exit 1
  fi
  printf '\nThe mesh stays up; Ctrl-C ends it. In another shell:\n'
  printf '  export LANEMESH_CONTROLLER_ADMIN=%s\n  %s get lanes\n' "$LANEMESH_CONTROLLER_ADMIN" "$DEMO_MESH_CTL"
  # Ends by a signal, and what the example tidies up at its end is done.
  sleep infinity || true
}
