# Sourced by the api-* scripts: the processes of an API server, each in its folder $dir = run/api-NAME.
#
#   PROGRAM.argv  what it was started with     url       of kube-apiserver
#   PROGRAM.pid   while it runs                etcd-url  of etcd, for clients (plain HTTP on loopback)
#   PROGRAM.log   of all its starts            kept      set aside by api-down --keep, for api-up to go on with
# shellcheck shell=bash disable=SC2154

# api_folder NAME: sets $name and $dir.
api_folder() {
  name=$1
  [[ $name =~ ^[a-z0-9][a-z0-9-]*$ ]] || die "name: $name"
  dir=$run/api-$name
}

# One script at a time works on a server. fd 8 is the lock; a server must not keep it.
# api-down removes the file, so the one that was waited for may not be the one that counts.
api_lock() {
  local file=$run/api-$name.lock
  while :; do
    exec 8>"$file"
    flock 8
    [ "$(stat -Lc %i /proc/self/fd/8)" != "$(stat -c %i "$file" 2>/dev/null)" ] || return 0
  done
}

# api_launch PROGRAM [FILE FLAG...]: without FILE, as it was started last.
api_launch() {
  local program=$1 argv
  shift
  [ $# = 0 ] || printf '%s\0' "$@" >"$dir/$program.argv"
  mapfile -d '' -t argv <"$dir/$program.argv"
  cd "$dir" || return
  setsid nohup "${argv[@]}" >>"$dir/$program.log" 2>&1 8>&- </dev/null &
  echo $! >"$dir/$program.pid"
  begun "$dir/$program.pid" "$dir"
}

api_running() { alive "$dir/$1.pid" "$dir"; }

api_ready() {
  curl -sf --max-time 2 --cacert "$dir/ca.crt" --cert "$dir/admin.crt" --key "$dir/admin.key" \
    "$(cat "$dir/url")/readyz" >/dev/null
}

# Waits until the server is ready; fails at once when etcd or kube-apiserver ends, or after two minutes.
api_wait() {
  local until=$((SECONDS + 120))
  while [ $SECONDS -lt $until ]; do
    if api_ready; then return; fi
    api_running etcd && api_running kube-apiserver || return 1
    sleep 0.05
  done
  return 1
}

api_stop() {
  local program
  for program; do stop "$dir/$program.pid" "$dir"; done
}

# Shows the log of what failed, stops everything and leaves the folder for a look at it.
api_fail() { # WHAT PROGRAM
  log "$1; the end of $dir/$2.log:"
  tail -n 15 "$dir/$2.log" >&2
  api_stop kube-controller-manager kube-apiserver etcd
  exit 1
}

# After api_wait failed.
api_not_ready() {
  api_running etcd || api_fail "etcd ended" etcd
  api_fail "kube-apiserver is not ready" kube-apiserver
}
