// Package protocol is what `testbed up` speaks with the program that started it: one line of JSON on standard output
// when the fleet is ready or could not be made, then one line in (a [Command]) for one line out (an [Answer]). The end of
// standard input ends the fleet.
//
//	out  {"ready":true,"etcd":{…},"s3":{…},"clusters":[{"name":"control-plane",…},{"name":"dp-1",…}]}
//	in   {"do":"delay","cluster":"dp-1","millis":50}
//	out  {"ok":true,"server":"https://127.0.0.1:35625","kubeconfig":"…"}
package protocol

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Ready is the first line.
type Ready struct {
	Ready    bool      `json:"ready"`
	Etcd     *Etcd     `json:"etcd,omitempty"`
	S3       *S3       `json:"s3,omitempty"`
	Clusters []Cluster `json:"clusters,omitempty"`
	// Admin is where a simulation is told what to do.
	Admin string `json:"admin,omitempty"`
	// Error and Log say what went wrong, and in which file the failed program wrote, when Ready is false.
	Error string `json:"error,omitempty"`
	Log   string `json:"log,omitempty"`
}

// Etcd is the one etcd all clusters share, each under a prefix of its own.
type Etcd struct {
	PID int    `json:"pid"`
	URL string `json:"url"`
}

// S3 is the object store of the data planes' backups.
type S3 struct {
	PID       int    `json:"pid"`
	Endpoint  string `json:"endpoint"`
	Bucket    string `json:"bucket"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
}

// Cluster is one Kubernetes API server. Its kubeconfig holds everything inline and is an administrator's.
type Cluster struct {
	Name       string `json:"name"`
	Kubeconfig string `json:"kubeconfig"`
	Server     string `json:"server"`
	PID        int    `json:"pid"`
	Log        string `json:"log"`
}

// Verbs of a [Command].
const (
	// Stop kills an API server with SIGKILL.
	Stop = "stop"
	// Start starts a stopped API server again, on the same port.
	Start = "start"
	// Pause stops an API server with SIGSTOP: it accepts connections and never answers.
	Pause = "pause"
	// Resume undoes Pause.
	Resume = "resume"
	// Add starts one more cluster.
	Add = "add"
	// Delay puts a proxy in front of an API server that adds Millis to every round trip.
	Delay = "delay"
	// Rotate gives the object store other credentials; the old ones work no more. It is about no cluster.
	Rotate = "rotate"
)

// Command is one line on standard input.
type Command struct {
	Do      string `json:"do"`
	Cluster string `json:"cluster,omitempty"`
	Millis  int    `json:"millis,omitempty"`
}

// Answer is the line that answers a Command.
type Answer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// Cluster answers add and start (its pid is new then).
	Cluster *Cluster `json:"cluster,omitempty"`
	// Server and Kubeconfig answer delay: the proxy's address and a kubeconfig that goes through it.
	Server     string `json:"server,omitempty"`
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// S3 answers rotate.
	S3 *S3 `json:"s3,omitempty"`
}

// Failure answers a command that could not be carried out.
func Failure(err error) Answer { return Answer{Error: err.Error()} }

// Parse reads one Command and checks that it is complete.
func Parse(line []byte) (Command, error) {
	var command Command
	if err := json.Unmarshal(line, &command); err != nil {
		return command, fmt.Errorf("not a JSON command: %w", err)
	}
	switch command.Do {
	case Stop, Start, Pause, Resume, Add:
	case Rotate:
		return command, nil
	case Delay:
		if command.Millis <= 0 {
			return command, fmt.Errorf("delay: millis must be above 0, is %d", command.Millis)
		}
	default:
		return command, fmt.Errorf("do: %q is none of stop, start, pause, resume, add, delay, rotate", command.Do)
	}
	if command.Cluster == "" {
		return command, fmt.Errorf("%s: cluster is missing", command.Do)
	}
	return command, nil
}

// Serve answers each line of in until it ends, one after the other.
func Serve(in io.Reader, out io.Writer, do func(Command) Answer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := Write(out, answer(lines.Bytes(), do)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func answer(line []byte, do func(Command) Answer) Answer {
	command, err := Parse(line)
	if err != nil {
		return Failure(err)
	}
	return do(command)
}

// Write writes one line.
func Write(out io.Writer, message any) error {
	return json.NewEncoder(out).Encode(message)
}
