package observe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"coffer/canon"
)

// Tracer sends spans to an OTLP/HTTP collector.
//
// A trace is an intent. Its ID is the first half of the intent's digest and its root
// span's ID the eight bytes after, so that what the processes of several organisations
// tell of one intent meets in one trace, though they hand each other nothing for it
// and each may send to a collector of its own. A nil Tracer does nothing.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Source says which process tells.
type Source struct{ Service, Name, Version string }

// CheckEndpoint refuses what is no http or https URL, or carries a secret in it.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "": // not shown: it may hold a password
		return errors.New("not an http or https URL, such as http://127.0.0.1:4318")
	case u.User != nil:
		return errors.New("a URL with a password in it would stand in logs: run a collector on this machine, which holds the password")
	}
	return nil
}

// NewTracer makes a tracer; an empty endpoint makes none. It dials nobody yet, and a
// collector that is away costs spans, which are dropped, and one line in the log.
func NewTracer(ctx context.Context, endpoint string, from Source, log *slog.Logger) (*Tracer, error) {
	if endpoint == "" {
		return nil, nil
	}
	if err := CheckEndpoint(endpoint); err != nil {
		return nil, fmt.Errorf("traces_endpoint: %w", err)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(5*time.Second),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{})) // the next batch is soon enough
	if err != nil {
		return nil, fmt.Errorf("traces_endpoint: %w", err)
	}
	return newTracer(exporter, from, log), nil
}

func newTracer(exporter sdk.SpanExporter, from Source, log *slog.Logger) *Tracer {
	provider := sdk.NewTracerProvider(
		sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithIDGenerator(ids{}),
		sdk.WithBatcher(&patient{SpanExporter: exporter, log: log}), // bounded; drops when full
		// What the environment says of resources is left out: it may hold anything.
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", from.Service), attribute.String("service.instance.id", from.Name), attribute.String("service.version", from.Version),
		)),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("coffer")}
}

// Span tells what lasted from begin to now about an intent. code is empty when it
// went well, else a code of docs/errors.md. attributes are pairs of key and value.
func (t *Tracer) Span(intent canon.Digest, name string, begin time.Time, code string, attributes ...string) {
	if t == nil {
		return
	}
	root := trace.NewSpanContext(trace.SpanContextConfig{TraceID: TraceID(intent), SpanID: rootID(intent), TraceFlags: trace.FlagsSampled, Remote: true})
	t.span(trace.ContextWithRemoteSpanContext(context.Background(), root), intent, name, begin, code, attributes)
}

// Root tells a whole intent, from begin to now. One process does, the coordinator.
func (t *Tracer) Root(intent canon.Digest, name string, begin time.Time, code string, attributes ...string) {
	if t == nil {
		return
	}
	t.span(context.WithValue(context.Background(), rootKey{}, intent), intent, name, begin, code, attributes)
}

func (t *Tracer) span(ctx context.Context, intent canon.Digest, name string, begin time.Time, code string, attributes []string) {
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(begin), trace.WithAttributes(attribute.String("coffer.intent", intent.String())))
	for i := 0; i+1 < len(attributes); i += 2 {
		span.SetAttributes(attribute.String(attributes[i], attributes[i+1]))
	}
	if code != "" {
		span.SetStatus(codes.Error, code)
	}
	span.End()
}

// Close sends what is left, for a moment.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what cannot be sent is lost, as while running
}

// TraceID is the trace of an intent: the first 32 digits of its ID.
func TraceID(intent canon.Digest) trace.TraceID { return trace.TraceID(intent[:16]) }

func rootID(intent canon.Digest) trace.SpanID { return trace.SpanID(intent[16:24]) }

type rootKey struct{}

// ids makes the IDs of spans.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	intent, ok := ctx.Value(rootKey{}).(canon.Digest)
	if !ok {
		_, _ = rand.Read(intent[:]) // never fails; a span of no intent has a trace of its own
	}
	return TraceID(intent), rootID(intent)
}

func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for binary.BigEndian.Uint64(id[:]) == 0 { // zero means none
		_, _ = rand.Read(id[:])
	}
	return id
}

// patient drops what a collector does not take, and says so once until it takes again.
type patient struct {
	sdk.SpanExporter
	log *slog.Logger

	mu   sync.Mutex
	away bool
}

func (p *patient) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := p.SpanExporter.ExportSpans(ctx, spans)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && !p.away {
		p.log.Warn("the trace collector does not answer; spans are dropped until it does", "error", err)
	} else if err == nil && p.away {
		p.log.Info("the trace collector answers")
	}
	p.away = err != nil
	return nil // the library would print it to stderr, each time
}
