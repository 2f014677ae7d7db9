// Command bench measures what serving costs beside distribution's registry and
// http.FileServer, in one run, each a process of its own over the same folder.
//
//	go run ./store/serve/testdata/bench [-rounds 3] [-for 2s] [-lastro BINARY] [-dir FOLDER] [-tags N]
//
// A client with raw sockets asks over eight connections, contenders in turn.
// What counts is the processor time of the server, from /proc: medians of the
// rounds. The latencies are of a machine whose processors the client shares.
//
// It exits with 1 when a target is missed: of distribution's processor time a
// ninth for manifests, a fifteenth for small blobs, a quarter for HEAD of blobs,
// half for layers of 3 MB; of http.FileServer's 1.1 times for blobs of 60 MB; 64
// of them at once within 40 MiB of memory. With -tags: a second from the start
// to the first pull, and 60 MiB of memory when idle.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	log.SetFlags(0)
	var b bench
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each")
	flag.DurationVar(&b.length, "for", 2*time.Second, "how long one measurement takes")
	flag.StringVar(&b.lastro, "lastro", "", "lastro binary (default: built)")
	flag.StringVar(&b.dir, "dir", "", "folder to write to (default: a temporary one)")
	tags := flag.Int("tags", 0, "measure only the start over so many tags")
	files := flag.String("files", "", "be http.FileServer of this folder")
	listen := flag.String("listen", "", "where to listen, with -files")
	flag.Parse()
	if *files != "" {
		log.Fatal(http.ListenAndServe(*listen, http.FileServer(http.Dir(*files))))
	}
	met, err := b.run(*tags)
	if err != nil {
		log.Fatal(err)
	}
	if !met {
		os.Exit(1)
	}
}

type bench struct {
	rounds int
	length time.Duration
	lastro string
	dir    string
}

// scenario is one kind of request. Its cost is of a request, or of a GB where
// bytes count.
type scenario struct {
	name     string
	beside   string // whose cost ours is compared with
	most     float64
	perGB    bool
	requests func(content) map[string][]string // by contender: request lines
}

func (b *bench) run(tags int) (met bool, err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "lastro-bench-"); err != nil {
			return false, err
		}
		defer os.RemoveAll(b.dir)
	}
	if tags > 0 {
		return b.startUp(tags)
	}
	stored, err := fill(filepath.Join(b.dir, "data"))
	if err != nil {
		return false, err
	}
	servers, err := b.start()
	if err != nil {
		return false, err
	}
	defer servers.stop()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "request\tcontender\tCPU\tratio\ttarget\trequests/s\tp50\tp99\tallowed")
	met = true
	for _, s := range scenarios {
		ok, err := b.compare(table, servers, s, s.requests(stored))
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		met = met && ok
	}
	ok, err := b.memory(table, servers, stored)
	return met && ok, err
}

// compare measures the contenders in turn and prints a line for each.
func (b *bench) compare(table *tabwriter.Writer, servers servers, s scenario, requests map[string][]string) (met bool, err error) {
	results := map[string][]result{}
	for range b.rounds {
		for _, name := range order(requests) {
			r, err := measure(servers[name], requests[name], b.length, s.perGB)
			if err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
			results[name] = append(results[name], r)
		}
	}
	reference := median(results[s.beside]).cost
	for _, name := range order(requests) {
		r := median(results[name])
		ratio, verdict := float64(r.cost)/float64(reference), ""
		if name == "lastro" {
			met = ratio <= s.most
			verdict = map[bool]string{true: "met", false: "MISSED"}[met]
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%.3f\t%.3f\t%.0f\t%v\t%v\t%s\n", s.name, name, r.cost, ratio, s.most, r.rate, r.p50, r.p99, verdict)
	}
	return met, nil
}

func order(requests map[string][]string) (names []string) {
	for _, name := range []string{"lastro", "distribution", "files"} {
		if requests[name] != nil {
			names = append(names, name)
		}
	}
	return names
}

func median(results []result) result {
	slices.SortFunc(results, func(a, b result) int { return int(a.cost - b.cost) })
	return results[len(results)/2]
}

// atOnce is how many large blobs are pulled at once for the memory.
const atOnce = 64

func (b *bench) memory(table *tabwriter.Writer, servers servers, stored content) (met bool, err error) {
	const most = 40 << 20
	requests := large(stored)
	for _, name := range order(requests) {
		peak, err := pullAtOnce(servers[name], requests[name][0], atOnce)
		if err != nil {
			return false, fmt.Errorf("64 at once: %s: %w", name, err)
		}
		verdict := ""
		if name == "lastro" {
			met = peak <= most
			verdict = map[bool]string{true: "met", false: "MISSED"}[met]
		}
		fmt.Fprintf(table, "%d pulls of 60 MB at once\t%s\t%d MiB of memory\t\t%d\t\t\t\t%s\n", atOnce, name, peak>>20, most>>20, verdict)
	}
	return met, nil
}
