package docs_test

import (
	"slices"
	"strings"
	"testing"

	"coffer/coordinator"
	"coffer/hook"
	"coffer/node"
	"coffer/observe"
)

// Every metric has its row, and every row is of a metric.
func TestMetrics(t *testing.T) {
	document := read(t, "docs/monitoring.md")
	for heading, defs := range map[string][]observe.Def{"Metrics of a signer": node.Metrics, "Metrics of a coordinator": coordinator.Metrics} {
		var want, got [][]string
		for _, d := range defs {
			want = append(want, []string{d.Name, string(d.Kind), strings.Join(d.Labels, ", "), d.Help})
			if !strings.HasPrefix(d.Name, "coffer_") || strings.HasSuffix(d.Name, "_total") != (d.Kind == observe.Counter) || d.Help == "" {
				t.Errorf("%s, a %s, is not named as such", d.Name, d.Kind)
			}
		}
		for _, row := range rows(section(t, document, heading)) {
			got = append(got, append([]string{unquote(row[0])}, row[1:]...))
		}
		compare(t, heading, got, want)
	}
}

// Every event of a hook has its row, which says who tells it.
func TestHookEvents(t *testing.T) {
	who := map[string]string{}
	for _, name := range hook.OfSigner {
		who[name] = "signer"
	}
	for _, name := range hook.OfCoordinator {
		if who[name] != "" {
			who[name] = "both"
		} else {
			who[name] = "coordinator"
		}
	}
	var seen []string
	for _, row := range rows(section(t, read(t, "docs/monitoring.md"), "Hooks")) {
		name := unquote(row[0])
		if len(row) != 3 || who[name] != row[1] || row[2] == "" || slices.Contains(seen, name) {
			t.Errorf("%s: %q, want who tells it (%s) and when", name, row, who[name])
		}
		seen = append(seen, name)
	}
	if len(seen) != len(who) || len(who) < 5 {
		t.Errorf("%d events have rows, there are %d", len(seen), len(who))
	}
}
