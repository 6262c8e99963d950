# shellcheck shell=bash
# What the demonstration needs on this machine. Sourced by demo.sh.

# Packages for apt, and what apt does not have, of what is missing.
missing_packages=()
missing_others=()

have() { command -v "$1" >/dev/null 2>&1; }

# at_least MAJOR.MINOR MAJOR.MINOR: whether the first is not older than the second.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_rust() {
	have cargo || missing_others+=("Rust: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")
	have cc || missing_packages+=(gcc libc6-dev)
}

# Go 1.21 and later fetch by themselves the release that go.mod asks for.
check_go() {
	local version
	if ! have go; then
		missing_packages+=(golang-go)
		return
	fi
	version=$(go env GOVERSION)
	at_least "${version#go}" 1.21 ||
		missing_others+=("Go 1.21 or newer (this is $version): https://go.dev/doc/install")
}

check_python() {
	local python version seen=""
	for python in python3.12 python3.11 python3; do
		# A name on PATH may be a shim of a version that is not selected.
		version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
		case $version in
		3.11 | 3.12)
			"$python" -c 'import ensurepip, venv' 2>/dev/null || missing_packages+=("python$version-venv")
			return
			;;
		esac
		seen="$seen $python is $version."
	done
	if [ -z "$seen" ]; then
		missing_packages+=(python3 python3-venv)
	else
		missing_others+=("Python 3.11 or 3.12, as Medusa's package demands:$seen With uv: uv python install 3.12")
	fi
}

check_java() {
	local version=""
	if have java && have javac; then
		version=$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')
	fi
	[ "$version" = 17 ] && return
	missing_packages+=(openjdk-17-jdk-headless)
	if [ -n "$version" ]; then
		missing_others+=("JDK 17 first on PATH (this is $version): sudo update-alternatives --config javac, and java")
	fi
}

check_namespaces() {
	[ "$(id -u)" = 0 ] && return
	unshare --user --map-root-user --mount --uts true 2>/dev/null ||
		missing_others+=("unprivileged user namespaces, or root: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
}

# Prints what is missing and how to get it; fails if anything is.
check_prerequisites() {
	check_rust
	check_go
	check_python
	check_java
	have mvn || missing_packages+=(maven)
	have setpriv || missing_packages+=(util-linux)
	check_namespaces
	if [ ${#missing_packages[@]} -gt 0 ]; then
		echo "Missing. Install with:"
		echo
		echo "  sudo apt-get update && sudo apt-get install -y ${missing_packages[*]}"
		echo
	fi
	if [ ${#missing_others[@]} -gt 0 ]; then
		echo "Also needed:"
		printf '  - %s\n' "${missing_others[@]}"
	fi
	[ ${#missing_packages[@]} -eq 0 ] && [ ${#missing_others[@]} -eq 0 ]
}
