package observe

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind is what Prometheus calls the type of a metric.
type Kind string

// The kinds of metric.
const (
	Gauge     Kind = "gauge" // looked up when somebody asks
	Counter   Kind = "counter"
	Histogram Kind = "histogram" // of seconds
)

// Def is one metric of a daemon. docs/monitoring.md has a row for each.
type Def struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// buckets are seconds: from a message's way to a key generation's.
var buckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180, 600}

// maxSeries bounds each counter and histogram. Labels are codes, checks and names of
// the charter; if one should ever come from elsewhere, what is over the bound is
// counted as "other", and nobody fills the memory.
const maxSeries = 256

// label is the form of what may stand in a label: nothing that could be a secret, an
// address or a sentence.
var label = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,39}$`)

// Metrics are the numbers of one daemon.
type Metrics struct {
	defs     map[string]Def
	gauges   map[string]*prometheus.Desc
	counters map[string]*prometheus.CounterVec
	times    map[string]*prometheus.HistogramVec
	read     func(set Set)
	registry *prometheus.Registry

	mu   sync.Mutex
	seen map[string]map[string]bool // of each metric, the labels so far
}

// Set gives a gauge its value.
type Set func(name string, value float64, labels ...string)

// NewMetrics makes the given metrics and those of the process. read sets all gauges
// each time that somebody asks; it must be quick.
func NewMetrics(defs []Def, read func(set Set)) *Metrics {
	m := &Metrics{
		defs: map[string]Def{}, gauges: map[string]*prometheus.Desc{}, counters: map[string]*prometheus.CounterVec{}, times: map[string]*prometheus.HistogramVec{},
		read: read, registry: prometheus.NewRegistry(), seen: map[string]map[string]bool{},
	}
	for _, d := range defs {
		m.defs[d.Name] = d
		switch d.Kind {
		case Gauge:
			m.gauges[d.Name] = prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
		case Counter:
			m.counters[d.Name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
			m.registry.MustRegister(m.counters[d.Name])
			if len(d.Labels) == 0 {
				m.counters[d.Name].WithLabelValues() // so that it begins at 0 and not with its first event
			}
		case Histogram:
			m.times[d.Name] = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: buckets}, d.Labels)
			m.registry.MustRegister(m.times[d.Name])
		}
	}
	// Not package collectors, which links database/sql into a signer.
	m.registry.MustRegister(m, prometheus.NewGoCollector(), prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{})) //nolint:staticcheck // deprecated for that package
	return m
}

// Gatherer is what Server shows.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Inc counts one. An empty label is fine: it says that there was none.
func (m *Metrics) Inc(name string, labels ...string) {
	vec, ok := m.counters[name]
	if !ok {
		panic("observe: no counter " + name) // a slip of the pen: names are constants
	}
	vec.WithLabelValues(m.bounded(name, labels)...).Inc()
}

// Took notes how long something lasted.
func (m *Metrics) Took(name string, d time.Duration, labels ...string) {
	vec, ok := m.times[name]
	if !ok {
		panic("observe: no histogram " + name)
	}
	vec.WithLabelValues(m.bounded(name, labels)...).Observe(d.Seconds())
}

func (m *Metrics) bounded(name string, labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		if out[i] = l; l != "" && !label.MatchString(l) {
			out[i] = "other"
		}
	}
	key := strings.Join(out, "\x00")
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.seen[name]
	if seen == nil {
		seen = map[string]bool{}
		m.seen[name] = seen
	}
	if !seen[key] && len(seen) >= maxSeries {
		for i := range out {
			out[i] = "other"
		}
		return out
	}
	seen[key] = true
	return out
}

// Describe is of prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.gauges {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.read(func(name string, value float64, labels ...string) {
		desc, ok := m.gauges[name]
		if !ok {
			panic("observe: no gauge " + name)
		}
		metric, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, value, labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, fmt.Errorf("%s: %w", name, err))
		}
		ch <- metric
	})
}

// Bool is 1 for true.
func Bool(v bool) float64 {
	if v {
		return 1
	}
	return 0
}
