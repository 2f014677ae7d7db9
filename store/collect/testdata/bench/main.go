// Command bench measures what it costs to free what is garbage, beside
// distribution's registry garbage-collect, in one run over copies of one folder.
//
//	go run ./store/collect/testdata/bench [-repos 2000] [-tags 10] [-large 1600] [-clients 8] [-for 5s] [-rounds 5] [-what folder,large,beside] [-dir FOLDER]
//
// Every image has six layers, three of them shared with the other images of its
// repository. One tag of a hundred is removed; of one large repository, one of ten.
// Theirs is the whole process with -delete-untagged; ours is two runs in a process
// of its own, the clock moved past the wait between them. Both must leave the same.
// Then clients push, pull and delete tags while the collector runs without a pause,
// and while it does not run, in turn.
//
// It exits with 1 when a target is missed: 50 times less wall clock and processor
// time than theirs, a second for the large repository, and a p99 of pushes that is
// at most 1.2 times what it is without a collector.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	log.SetFlags(0)
	var b bench
	flag.IntVar(&b.repos, "repos", 2000, "repositories")
	flag.IntVar(&b.tags, "tags", 10, "tags of each")
	flag.IntVar(&b.large, "large", 1600, "tags of the one large repository")
	flag.IntVar(&b.clients, "clients", 8, "clients that push and pull")
	flag.DurationVar(&b.length, "for", 5*time.Second, "how long clients work without and with a collector")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of that")
	what := flag.String("what", "folder,large,beside", "which measurements")
	flag.StringVar(&b.dir, "dir", "", "folder to write to (default: a temporary one)")
	collect := flag.String("collect", "", "collect in this data folder, and print what it took")
	runs := flag.Int("runs", 2, "runs, with -collect")
	profile := flag.String("profile", "", "write a profile of the processor here, with -collect")
	flag.Parse()
	if *collect != "" {
		if err := collectHere(*collect, *runs, *profile); err != nil {
			log.Fatal(err)
		}
		return
	}
	met, err := b.run(strings.Split(*what, ","))
	if err != nil {
		log.Fatal(err)
	}
	if !met {
		os.Exit(1)
	}
}

type bench struct {
	repos, tags, large, clients, rounds int
	length                              time.Duration
	dir                                 string
	registry                            string // the binary
	table                               *tabwriter.Writer
}

func (b *bench) run(what []string) (met bool, err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "lastro-bench-"); err != nil {
			return false, err
		}
		defer os.RemoveAll(b.dir)
	}
	b.registry = filepath.Join(b.dir, "registry")
	if err := build(b.registry, "-modfile=.ci/tools.mod", "github.com/distribution/distribution/v3/cmd/registry"); err != nil {
		return false, err
	}
	b.table = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer b.table.Flush()
	met = true
	for _, name := range what {
		measure := map[string]func() (bool, error){"folder": b.inMany, "large": b.inOne, "beside": b.beside}[name]
		if measure == nil {
			return false, fmt.Errorf("-what %s: it is folder, large or beside", name)
		}
		ok, err := measure()
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		met = met && ok
	}
	return met, nil
}

func (b *bench) many() string {
	return filepath.Join(b.dir, fmt.Sprintf("data-%dx%d", b.repos, b.tags))
}

func (b *bench) inMany() (met bool, err error) {
	return b.compare(scenario{name: fmt.Sprintf("%d repositories of %d tags, 1 %% removed", b.repos, b.tags), dir: b.many(), repos: b.repos, tags: b.tags, every: 100, least: 50})
}

func (b *bench) inOne() (met bool, err error) {
	dir := filepath.Join(b.dir, "data-large")
	defer os.RemoveAll(dir)
	return b.compare(scenario{name: fmt.Sprintf("one repository of %d tags, 10 %% removed", b.large), dir: dir, repos: 1, tags: b.large, every: 10, most: time.Second})
}

// scenario is a folder with garbage in it.
type scenario struct {
	name        string
	dir         string
	repos, tags int
	every       int           // one tag of so many is removed
	least       float64       // how many times less ours is to take
	most        time.Duration // that it is to take
}

// compare has both collect in the same folder. What is published first is surveyed
// first, once and for all: that is told of on a line of its own.
func (b *bench) compare(s scenario) (met bool, err error) {
	fmt.Fprintln(b.table, "what\tcollector\twall\tCPU\tmemory\tcontents removed\ttimes less\ttarget")
	data, stock := s.dir, s.dir+".stock"
	defer os.RemoveAll(stock)
	if err := fill(data, s.repos, s.tags); err != nil {
		return false, err
	}
	survey, err := b.ours(data, 1)
	if err != nil {
		return false, err
	}
	b.print(s.name, "ours, the first run", survey, "", "")
	if err := untag(data, s); err != nil {
		return false, err
	}
	if err := copyFolder(filepath.Join(data, "registry"), stock); err != nil {
		return false, err
	}
	before, err := contents(stock)
	if err != nil {
		return false, err
	}
	theirs, err := b.theirs(stock)
	if err != nil {
		return false, err
	}
	ours, err := b.ours(data, 2)
	if err != nil {
		return false, err
	}
	left, err := contents(stock)
	leftByUs, fault := contents(filepath.Join(data, "registry"))
	if err := errors.Join(err, fault); err != nil {
		return false, err
	}
	theirs.Deleted = before - left
	if left != leftByUs || ours.Deleted != theirs.Deleted {
		return false, fmt.Errorf("%d contents are left by theirs, %d by ours, which says that it removed %d of %d", left, leftByUs, ours.Deleted, before)
	}
	b.print(s.name, "registry garbage-collect", theirs, "", "")
	wall, cpu := theirs.Wall.Seconds()/ours.Wall.Seconds(), theirs.CPU.Seconds()/ours.CPU.Seconds()
	met = min(wall, cpu) >= s.least && (s.most == 0 || ours.Wall < s.most)
	target := fmt.Sprintf("%.0f", s.least)
	if s.most > 0 {
		target = "under " + s.most.String()
	}
	b.print(s.name, "ours, two runs", ours, fmt.Sprintf("%.0f wall, %.0f CPU", wall, cpu), target+verdict(met))
	return met, nil
}

func (b *bench) print(name, collector string, t taken, less, target string) {
	fmt.Fprintf(b.table, "%s\t%s\t%v\t%v\t%d MiB\t%d\t%s\t%s\n", name, collector, t.Wall.Round(time.Millisecond), t.CPU.Round(time.Millisecond), t.Peak>>20, t.Deleted, less, target)
	_ = b.table.Flush()
}

func verdict(met bool) string {
	if met {
		return ", met"
	}
	return ", MISSED"
}
