package observe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coffer/observe"
)

var defs = []observe.Def{
	{Name: "x_up", Kind: observe.Gauge, Labels: []string{"peer"}, Help: "h"},
	{Name: "x_total", Kind: observe.Counter, Labels: []string{"code"}, Help: "h"},
	{Name: "x_bare_total", Kind: observe.Counter, Help: "h"},
	{Name: "x_seconds", Kind: observe.Histogram, Labels: []string{"stage"}, Help: "h"},
}

// series lists what a scrape shows of a metric, label values only.
func series(t *testing.T, m *observe.Metrics, name string) []string {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, metric := range f.Metric {
			var labels []string
			for _, l := range metric.Label {
				labels = append(labels, l.GetValue())
			}
			out = append(out, strings.Join(labels, ","))
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	m := observe.NewMetrics(defs, func(set observe.Set) { set("x_up", observe.Bool(true), "b"); set("x_up", 0, "c") })
	m.Inc("x_total", "PEER_AWAY")
	m.Inc("x_total", "")
	m.Took("x_seconds", time.Second, "bind")
	for name, want := range map[string]string{"x_up": "b c", "x_total": " PEER_AWAY", "x_bare_total": "", "x_seconds": "bind"} {
		if got := series(t, m, name); strings.Join(got, " ") != want || len(got) == 0 {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(series(t, m, "process_open_fds")) != 1 {
		t.Error("nothing is said of the process")
	}
}

// Whatever a peer can make us count, a scrape stays small and shows no text of its.
func TestLabelsAreBounded(t *testing.T) {
	m := observe.NewMetrics(defs, func(observe.Set) {})
	for _, bad := range []string{"two words", "0x52908400098527886E0F7030069857D2E4169EE7", strings.Repeat("A", 41), "a\nb", "é", "1"} {
		m.Inc("x_total", bad)
	}
	if got := series(t, m, "x_total"); len(got) != 1 || got[0] != "other" {
		t.Errorf("labels %q", got)
	}
	for i := range 1000 {
		m.Inc("x_total", fmt.Sprintf("CODE_%d", i))
		m.Took("x_seconds", time.Second, fmt.Sprintf("stage%d", i))
	}
	for _, name := range []string{"x_total", "x_seconds"} {
		if got := series(t, m, name); len(got) > 257 {
			t.Errorf("%s has %d series", name, len(got))
		}
	}
}
