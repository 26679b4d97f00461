#!/bin/bash
# deps.sh PACKAGE...: installs those Debian or Ubuntu packages that are missing. When none is, it needs no root and
# does not call apt. Fails, naming the missing ones, when they cannot be installed.
set -u

# A tool counts as installed however it came.
is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] || command -v "$1" >/dev/null
}

missing_of() {
	local package
	for package; do
		is_installed "$package" || echo "$package"
	done
}

# A server that a package brings must not start: ours are private. Packages ask this file before they start anything.
forbid_services() {
	local policy=/usr/sbin/policy-rc.d
	[ -e "$policy" ] && return
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
}

install_packages() {
	export DEBIAN_FRONTEND=noninteractive
	forbid_services
	apt-get update && apt-get install -y --no-install-recommends "$@"
}

fail() {
	echo "deps: missing packages: ${missing[*]}" >&2
	echo "deps: $1" >&2
	exit 1
}

mapfile -t missing < <(missing_of "$@")
[ ${#missing[@]} -eq 0 ] && exit 0
command -v apt-get >/dev/null || fail "this system has no apt-get; install what these packages bring, then try again"
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || fail "not root, and no sudo without a password; as root run: apt-get install ${missing[*]}"
	exec sudo -n bash "$0" "$@"
fi
echo "installing ${missing[*]}" >&2
log=$(mktemp) || exit 1
install_packages "${missing[@]}" >"$log" 2>&1
mapfile -t missing < <(missing_of "${missing[@]}")
if [ ${#missing[@]} -ne 0 ]; then
	tail -n 20 "$log" >&2
	rm -f "$log"
	fail "apt-get could not install them"
fi
rm -f "$log"
