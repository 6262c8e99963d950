package objectstore

import (
	"fmt"
	"sort"
	"strings"
	"text/tabwriter"
)

// summaryDepth is how many path elements Medusa's layout needs to tell nodes, backups and the index apart:
// prefix/node/backup and prefix/index/kind.
const summaryDepth = 3

// Summary is a table of how many objects and bytes lie below each directory.
func Summary(objects []Object) string {
	type total struct {
		objects int
		bytes   int64
	}
	totals := map[string]*total{}
	for _, object := range objects {
		parts := strings.Split(object.Key, "/")
		name := strings.Join(parts[:min(summaryDepth, len(parts)-1)], "/") + "/"
		if totals[name] == nil {
			totals[name] = &total{}
		}
		totals[name].objects++
		totals[name].bytes += object.Size
	}
	var names []string
	for name := range totals {
		names = append(names, name)
	}
	sort.Strings(names)
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PATH\tOBJECTS\tSIZE")
	for _, name := range names {
		fmt.Fprintf(table, "%s\t%d\t%s\n", name, totals[name].objects, size(totals[name].bytes))
	}
	_ = table.Flush()
	return text.String()
}

func size(bytes int64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	default:
		return fmt.Sprintf("%d B", bytes)
	}
}
