package protocol

import (
	"bytes"
	"strings"
	"testing"
)

func TestParseRefusesWhatItCannotDo(t *testing.T) {
	for line, want := range map[string]string{
		`{"do":"stop","cluster":"dp-1"}`:               "",
		`{"do":"delay","cluster":"dp-1","millis":50}`:  "",
		`{"do":"delay","cluster":"dp-1"}`:              "millis must be above 0",
		`{"do":"rotate"}`:                              "",
		`{"do":"stop"}`:                                "cluster is missing",
		`{"do":"explode","cluster":"dp-1"}`:            "none of stop",
		`stop dp-1`:                                    "not a JSON command",
		`{"do":"delay","cluster":"dp-1","millis":-50}`: "millis must be above 0",
	} {
		_, err := Parse([]byte(line))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestEveryLineGetsOneAnswer(t *testing.T) {
	in := strings.NewReader("{\"do\":\"stop\",\"cluster\":\"dp-1\"}\n\nnonsense\n{\"do\":\"start\",\"cluster\":\"dp-1\"}\n")
	var out bytes.Buffer
	var done []string
	err := Serve(in, &out, func(command Command) Answer {
		done = append(done, command.Do)
		return Answer{OK: true}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(done, " "); got != "stop start" {
		t.Errorf("did %q", got)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || lines[0] != `{"ok":true}` || !strings.Contains(lines[1], `"ok":false`) {
		t.Errorf("answers %q", lines)
	}
}
