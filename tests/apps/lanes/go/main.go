// Links made with net/http and otelhttp.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

// One link: where it listens, how it is called, and whom it calls when.
type link struct {
	listen, name, outbound, next string
	late                         time.Duration
	isLate, isWorker             bool
	start                        sync.Once
	paths                        chan string
}

var client = &http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport), Timeout: 30 * time.Second}

func parse(text string) *link {
	words := strings.Split(text, ",")
	if len(words) != 5 {
		log.Fatalf("%q has not the form LISTEN,NAME,OUTBOUND,NEXT,BEHAVIOUR", text)
	}
	parsed := &link{listen: words[0], name: words[1], outbound: words[2], paths: make(chan string, 1024)}
	if words[3] != "-" {
		parsed.next = words[3]
	}
	parsed.isWorker = words[4] == "worker"
	if seconds, found := strings.CutPrefix(words[4], "late:"); found {
		late, err := time.ParseDuration(seconds + "s")
		if err != nil {
			log.Fatal(err)
		}
		parsed.late, parsed.isLate = late, true
	}
	return parsed
}

func (l *link) call(ctx context.Context, path string) (int, string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.outbound+path, nil)
	if err != nil {
		return http.StatusInternalServerError, err.Error()
	}
	request.Host = l.next
	response, err := client.Do(request)
	if err != nil {
		return http.StatusBadGateway, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return http.StatusBadGateway, err.Error()
	}
	return response.StatusCode, string(text)
}

// work calls one path after the other, in the context of the request that started it.
func (l *link) work(ctx context.Context) {
	for path := range l.paths {
		l.call(ctx, path)
	}
}

func (l *link) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	label := request.Header.Get("x-mesh-lane")
	if label == "" {
		label = "-"
	}
	own := fmt.Sprintf("%s[%s]", l.name, label)
	path := request.URL.Path
	// The context without its end: what a call after the answer needs.
	after := context.WithoutCancel(request.Context())
	switch {
	case l.next == "":
		io.WriteString(writer, own)
	case l.isLate:
		time.AfterFunc(l.late, func() { l.call(after, path) })
		io.WriteString(writer, own)
	case l.isWorker:
		l.start.Do(func() { go l.work(after) })
		l.paths <- path
		io.WriteString(writer, own)
	default:
		status, rest := l.call(request.Context(), path)
		writer.WriteHeader(status)
		io.WriteString(writer, own+" "+rest)
	}
}

// propagator is the one that OTEL_PROPAGATORS names; W3C trace context and baggage unless it is set.
func propagator() propagation.TextMapPropagator {
	known := map[string]propagation.TextMapPropagator{
		"tracecontext": propagation.TraceContext{},
		"baggage":      propagation.Baggage{},
		"b3":           b3.New(),
		"b3multi":      b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)),
		"none":         propagation.NewCompositeTextMapPropagator(),
	}
	names := os.Getenv("OTEL_PROPAGATORS")
	if names == "" {
		names = "tracecontext,baggage"
	}
	var chosen []propagation.TextMapPropagator
	for _, name := range strings.Split(names, ",") {
		one, found := known[name]
		if !found {
			log.Fatalf("OTEL_PROPAGATORS: %q is not known", name)
		}
		chosen = append(chosen, one)
	}
	return propagation.NewCompositeTextMapPropagator(chosen...)
}

func main() {
	otel.SetTracerProvider(trace.NewTracerProvider())
	otel.SetTextMapPropagator(propagator())
	for _, text := range os.Args[1:] {
		one := parse(text)
		go func() { log.Fatal(http.ListenAndServe(one.listen, otelhttp.NewHandler(one, one.name))) }()
	}
	select {}
}
