# shellcheck shell=bash
# How the demonstration shows what it does. Sourced by demo.sh, which sets $logs.

part="start"
part_log=""
part_start=$SECONDS

# step TEXT [LOG]: announces the part that begins, and which log its failure is to be looked up in.
step() {
	part=$1
	part_log=${2:-}
	part_start=$SECONDS
	printf '\n==> %s\n' "$part"
}

# note TEXT: what a part has done.
note() { printf '    %s\n' "$1"; }

# tick TEXT: progress; on a terminal it replaces the line before, elsewhere it is a line every 15 s.
tick() {
	local seconds=$((SECONDS - part_start))
	if [ -t 1 ]; then
		printf '\r\033[K    %s … %d s' "$1" "$seconds"
	elif [ $((seconds % 15)) -eq 0 ] && [ "$seconds" -gt 0 ]; then
		printf '    %s … %d s\n' "$1" "$seconds"
	fi
}

end_tick() { [ ! -t 1 ] || printf '\r\033[K'; }

# quietly LOG COMMAND…: runs a command with its output in a log and the log's last line as progress.
quietly() {
	local log=$1 pid line status=0
	shift
	part_log=$log
	: >"$log"
	"$@" >"$log" 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		line=$(tail -n 1 "$log" | tr -d '\r' | sed 's/^ *//' | cut -c 1-70)
		tick "${line:-working}"
		sleep 1
	done
	wait "$pid" || status=$?
	end_tick
	return "$status"
}

# await SECONDS TEXT COMMAND…: repeats a command until it succeeds.
await() {
	local limit=$1 text=$2 end=$((SECONDS + $1))
	shift 2
	until "$@" >/dev/null 2>&1; do
		if [ "$SECONDS" -ge "$end" ]; then
			end_tick
			echo "not after $limit s: $text" >&2
			return 1
		fi
		alive || return 1
		tick "$text"
		sleep 1
	done
	end_tick
}

# failed: says which part failed and where to look.
failed() {
	end_tick
	printf '\nFAILED: %s\n' "$part" >&2
	if [ -n "$part_log" ]; then
		echo "Its log: $part_log" >&2
		if [ -s "$part_log" ]; then
			echo "It ends with:" >&2
			tail -n 8 "$part_log" | sed 's/^/    /' >&2
		fi
	fi
	echo "All logs: $logs" >&2
}
