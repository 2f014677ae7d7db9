// Command peers measures lastro's sync beside those of regsync, crane copy -a
// and skopeo sync --all, in one run: the same upstream, a fresh target each
// round, contenders in turn, medians.
//
//	go run ./mirror/testdata/peers -corpus FOLDER [-rounds 3] [-scenarios A,B,C,D] [-contenders lastro,regsync,crane,skopeo] [-json]
//
//	A  real images, library/ and apps/ of the corpus, into an empty target
//	B  the same, 40 ms away
//	C  thousands of small images into an empty target
//	D  the same again, with nothing new
//
// The corpus is an OCI layout whose index.json names its images repo:tag.
// crane, regsync and distribution's registry are the tools of .ci/tools.mod,
// skopeo is the system's and is left out where there is none.
//
// # What is counted
//
// The upstream is one registry process for all, filled once. Peers push into a
// registry process of their own, whose processor time and memory are theirs;
// lastro writes into its data folder. Memory is that of the largest process.
// Requests and bytes are counted in a round of their own that is not timed,
// through a proxy between contender and upstream. After every run a registry
// process serves what the contender made, and is asked for every tag of the
// upstream: a digest that lastro did not keep ends the run with an error, one
// that a peer did not keep is in the table.
//
// The distance of B is a proxy that holds back what it is given for half the
// round trip in each direction, and a connection's first bytes for another
// round trip, the handshake's. It does not limit how much is on its way, and
// knows no slow start.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.Ltime)
	var b bench
	flag.StringVar(&b.corpus, "corpus", "", "OCI layout of real images, for A and B")
	only := flag.String("only", "library/,apps/", "prefixes of the corpus' repositories that are copied")
	flag.IntVar(&b.tags, "small", 5000, "small images, for C and D")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each")
	flag.DurationVar(&b.distance, "trip", 40*time.Millisecond, "round trip of B")
	flag.DurationVar(&b.limit, "limit", 10*time.Minute, "how long one run may take")
	scenarios := flag.String("scenarios", "A,B,C,D", "which")
	contenders := flag.String("contenders", "lastro,regsync,crane,skopeo", "which")
	flag.StringVar(&b.lastro, "lastro", "", "lastro binary (default: built)")
	flag.StringVar(&b.dir, "dir", "", "folder to write to (default: a temporary one)")
	flag.IntVar(&b.regsync.parallel, "regsync-parallel", 8, "regsync's images at once")
	flag.IntVar(&b.regsync.requests, "regsync-requests", 8, "regsync's requests to a host at once")
	flag.BoolVar(&b.regsync.attached, "regsync-attached", true, "regsync copies signatures and referrers too, as lastro does")
	flag.IntVar(&b.craneJobs, "crane-jobs", 8, "crane's images at once")
	asJSON := flag.Bool("json", false, "print JSON, not a table")
	run := flag.Bool("run", false, "run the command that follows, and print what it took")
	flag.Parse()
	if *run {
		if err := launch(flag.Args()); err != nil {
			log.Fatal(err)
		}
		return
	}
	b.only = strings.Split(*only, ",")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	results, err := b.run(ctx, strings.Split(*scenarios, ","), strings.Split(*contenders, ","))
	stop()
	if err == nil && *asJSON {
		err = printJSON(os.Stdout, results)
	} else if err == nil {
		err = printTable(os.Stdout, results)
	}
	if err != nil {
		log.Fatal(err)
	}
}
