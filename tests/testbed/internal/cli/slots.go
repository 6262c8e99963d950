package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"
	_ "time/tzdata" // where the machine has no time zones

	"github.com/robfig/cron/v3"
)

// slotsQuery asks for slots of a cron expression, with its time zone as a prefix `TZ=…`.
type slotsQuery struct {
	Expression string `json:"expression"`
	// After is a Unix time in seconds; slots are later.
	After int64 `json:"after"`
	Count int   `json:"count"`
}

// slotsAnswer holds Unix times in seconds: fewer than asked for where robfig/cron finds none within five years.
type slotsAnswer struct {
	Slots []int64 `json:"slots"`
	Error string  `json:"error,omitempty"`
}

// printSlots answers one query per line of standard input, as the CronJob controller of Kubernetes and k8ssandra-operator
// read cron expressions.
func printSlots([]string) error {
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var query slotsQuery
		if err := json.Unmarshal(lines.Bytes(), &query); err != nil {
			return fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		if err := out.Encode(slotsInTime(query)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// slotsInTime gives up on a search that does not end: robfig/cron looks for ever for a day that a zone left out. What
// still searches ends with this program.
func slotsInTime(query slotsQuery) slotsAnswer {
	answers := make(chan slotsAnswer, 1)
	go func() { answers <- slots(query) }()
	select {
	case answer := <-answers:
		return answer
	case <-time.After(10 * time.Second):
		return slotsAnswer{Slots: []int64{}, Error: "the search does not end"}
	}
}

func slots(query slotsQuery) slotsAnswer {
	answer := slotsAnswer{Slots: []int64{}}
	schedule, err := cron.ParseStandard(query.Expression)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	for at := time.Unix(query.After, 0).UTC(); len(answer.Slots) < query.Count; {
		if at = schedule.Next(at); at.IsZero() {
			break
		}
		answer.Slots = append(answer.Slots, at.Unix())
	}
	return answer
}
