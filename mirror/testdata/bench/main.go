// Command bench compares a sync with the least that it could cost, in one run:
//
//	floor   HTTP GET → SHA-256 → file, fsync
//	lastro  the binary's sync of the same content into an empty data folder
//
// Each is its own process, beside a registry that is another, so that the
// processor time and the memory are its own. Rounds alternate; the medians are
// compared. A second sync with nothing new is counted by its requests.
//
//	go run ./mirror/testdata/bench [-rounds 3] [-large 2000] [-small 10000] [-lastro BINARY] [-dir FOLDER]
//
// It exits with 1 when a target is missed: processor time at most 1.15 times
// the floor's, at most 150 MiB of memory, one HEAD a tag and one list of tags.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxRatio  = 1.15
	maxMemory = 150 << 20
)

func main() {
	log.SetFlags(0)
	var b bench
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each")
	large := flag.Int("large", 2000, "MB of mixed layers")
	small := flag.Int("small", 10_000, "small blobs")
	flag.StringVar(&b.lastro, "lastro", "", "lastro binary (default: built)")
	flag.StringVar(&b.dir, "dir", "", "folder to write to (default: a temporary one)")
	serving := flag.String("serve", "", "be the registry of this content")
	floor := flag.String("floor", "", "be the floor: the registry's URL")
	flag.Parse()
	switch {
	case *serving != "":
		serve(*serving)
	case *floor != "":
		check(fetchAll(*floor, b.dir))
	default:
		check(b.run(map[string]string{
			fmt.Sprintf("%d MB of mixed layers", *large): fmt.Sprintf("large:%d", *large),
			fmt.Sprintf("%d small blobs", *small):        fmt.Sprintf("small:%d", *small),
		}))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// bench is one run of the command.
type bench struct {
	rounds      int
	lastro, dir string
	missed      bool
	made        int // folders; they stay until the end, because ext4 looks long at inodes just deleted
}

func (b *bench) fresh(kind string) string {
	b.made++
	return filepath.Join(b.dir, fmt.Sprintf("%s%d", kind, b.made))
}

func (b *bench) run(contents map[string]string) error {
	dir, err := os.MkdirTemp(b.dir, "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	if b.lastro == "" {
		b.lastro = filepath.Join(dir, "lastro")
		if out, err := exec.Command("go", "build", "-o", b.lastro, "./cmd/lastro").CombinedOutput(); err != nil {
			return fmt.Errorf("build lastro: %w: %s", err, out)
		}
	}
	for name, spec := range contents {
		if err := b.compare(name, spec); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if b.missed {
		return errors.New("a target was missed")
	}
	return nil
}

// cost is what one process took.
type cost struct {
	cpu, wall time.Duration
	memory    int64
}

func (b *bench) compare(name, spec string) error {
	url, stop, err := startServer(spec)
	if err != nil {
		return err
	}
	defer stop()
	var floors, syncs []cost
	for range b.rounds {
		f, err := b.floor(url)
		if err != nil {
			return err
		}
		s, err := b.sync(url)
		if err != nil {
			return err
		}
		floors, syncs = append(floors, f), append(syncs, s)
	}
	again, err := b.again(url)
	if err != nil {
		return err
	}
	b.report(name, median(floors), median(syncs), again)
	return nil
}

func (b *bench) report(name string, floor, sync cost, again counts) {
	ratio := sync.cpu.Seconds() / floor.cpu.Seconds()
	fmt.Printf("%s\n  floor   %6.2f CPU-s %6.2f s %5d MiB\n  lastro  %6.2f CPU-s %6.2f s %5d MiB\n", name,
		floor.cpu.Seconds(), floor.wall.Seconds(), floor.memory>>20, sync.cpu.Seconds(), sync.wall.Seconds(), sync.memory>>20)
	fmt.Printf("  CPU ratio %.2f; a second sync: %d HEAD, %d tag lists, %d others for %d tags\n", ratio, again.Head, again.Tags, again.Other, again.Known)
	if ratio > maxRatio || sync.memory > maxMemory || again.Head != again.Known || again.Tags != 1 || again.Other != 0 {
		b.missed = true
	}
}

func median(all []cost) cost {
	slices.SortFunc(all, func(a, b cost) int { return int(a.cpu - b.cpu) })
	return all[len(all)/2]
}

func (b *bench) floor(url string) (cost, error) {
	self, err := os.Executable()
	if err != nil {
		return cost{}, err
	}
	return measure(exec.Command(self, "-floor", url, "-dir", b.fresh("floor")))
}

func (b *bench) sync(url string) (cost, error) {
	config := filepath.Join(b.dir, "lastro.yaml")
	host := strings.TrimPrefix(url, "http://")
	text := fmt.Sprintf("data: %s\nupstreams:\n  %q:\n    plain-http: true\nmirror:\n  - from: %s/app\n", b.fresh("data"), host, host)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return cost{}, err
	}
	return measure(exec.Command(b.lastro, "--config", config, "--quiet", "sync"))
}

// again counts the requests of a sync after the last.
func (b *bench) again(url string) (c counts, err error) {
	if _, err := getJSON(url + "/counts"); err != nil { // begins anew
		return c, err
	}
	if _, err := measure(exec.Command(b.lastro, "--config", filepath.Join(b.dir, "lastro.yaml"), "--quiet", "sync")); err != nil {
		return c, err
	}
	raw, err := getJSON(url + "/counts")
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(raw, &c)
}

// measure runs a command alone with what the kernel says that it took.
func measure(c *exec.Cmd) (cost, error) {
	syscall.Sync() // what others wrote is not its work
	began := time.Now()
	out, err := c.CombinedOutput()
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w: %s", c, err, out)
	}
	usage := c.ProcessState.SysUsage().(*syscall.Rusage)
	return cost{c.ProcessState.UserTime() + c.ProcessState.SystemTime(), time.Since(began), usage.Maxrss << 10}, nil
}

// startServer starts this program as the registry.
func startServer(spec string) (url string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	c := exec.Command(self, "-serve", spec)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = c.Process.Kill(); _ = c.Wait() }
	if _, err := fmt.Fscanln(out, &url); err != nil {
		stop()
		return "", nil, fmt.Errorf("the registry did not start: %w", err)
	}
	return url, stop, nil
}

func serve(spec string) {
	s := httptest.NewServer(generate(spec))
	fmt.Println(s.URL)
	select {}
}
