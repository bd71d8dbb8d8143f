// Links made with net/http and otelhttp, over HTTP/1.1 and HTTP/2, and with gRPC and otelgrpc, all on one port.
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

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// One link: where it listens, how it is called, and whom it calls when.
type link struct {
	listen, name, outbound, next string
	late                         time.Duration
	isLate, isWorker             bool
	start                        sync.Once
	paths                        chan string
	channel                      *grpc.ClientConn
}

const limit = 30 * time.Second

// The next link is called in the version in which this one was.
var clients = map[int]*http.Client{1: client(http1()), 2: client(http2())}

func client(protocols *http.Protocols) *http.Client {
	return &http.Client{Transport: otelhttp.NewTransport(&http.Transport{Protocols: protocols}), Timeout: limit}
}

func http1() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return protocols
}

func http2() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func parse(text string) *link {
	words := strings.Split(text, ",")
	if len(words) != 5 {
		log.Fatalf("%q has not the form LISTEN,NAME,OUTBOUND,NEXT,BEHAVIOUR", text)
	}
	parsed := &link{listen: words[0], name: words[1], outbound: words[2], paths: make(chan string, 1024)}
	if words[3] != "-" {
		parsed.next = words[3]
		parsed.channel = channel(parsed.outbound, parsed.next)
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

func (l *link) call(ctx context.Context, version int, path string) (int, string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.outbound+path, nil)
	if err != nil {
		return http.StatusInternalServerError, err.Error()
	}
	request.Host = l.next
	response, err := clients[version].Do(request)
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
		l.call(ctx, 1, path)
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
		time.AfterFunc(l.late, func() { l.call(after, 1, path) })
		io.WriteString(writer, own)
	case l.isWorker:
		l.start.Do(func() { go l.work(after) })
		l.paths <- path
		io.WriteString(writer, own)
	default:
		status, rest := l.call(request.Context(), request.ProtoMajor, path)
		writer.WriteHeader(status)
		io.WriteString(writer, own+" "+rest)
	}
}

// serve takes HTTP/1.1 and HTTP/2; calls of gRPC come over HTTP/2.
func (l *link) serve() error {
	plain := otelhttp.NewHandler(l, l.name)
	calls := grpc.NewServer(
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.ForceServerCodec(raw{}),
		grpc.UnknownServiceHandler(l.serveCall),
	)
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if strings.HasPrefix(request.Header.Get("content-type"), "application/grpc") {
			calls.ServeHTTP(writer, request)
		} else {
			plain.ServeHTTP(writer, request)
		}
	})
	protocols := http1()
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: l.listen, Handler: handler, Protocols: protocols}
	return server.ListenAndServe()
}

// raw takes messages as they are: no link knows of protocol buffers.
type raw struct{}

func (raw) Name() string { return "" }

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }

func (raw) Unmarshal(data []byte, into any) error {
	*into.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func channel(outbound, next string) *grpc.ClientConn {
	made, err := grpc.NewClient(
		"passthrough:///"+outbound,
		grpc.WithAuthority(next),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})),
	)
	if err != nil {
		log.Fatal(err)
	}
	return made
}

func (l *link) serveCall(_ any, stream grpc.ServerStream) error {
	label := "-"
	if sent := metadata.ValueFromIncomingContext(stream.Context(), "x-mesh-lane"); len(sent) > 0 {
		label = sent[0]
	}
	path, _ := grpc.MethodFromServerStream(stream)
	var asked []byte
	if err := stream.RecvMsg(&asked); err != nil {
		return err
	}
	answer := fmt.Appendf(nil, "%s[%s]", l.name, label)
	if l.next != "" {
		ctx, cancel := context.WithTimeout(stream.Context(), limit)
		defer cancel()
		var rest []byte
		if err := l.channel.Invoke(ctx, path, &asked, &rest); err != nil {
			return status.Errorf(codes.Unavailable, "%s: %v", l.name, err)
		}
		answer = fmt.Appendf(answer, " %s", rest)
	}
	return stream.SendMsg(&answer)
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
		go func() { log.Fatal(one.serve()) }()
	}
	select {}
}
