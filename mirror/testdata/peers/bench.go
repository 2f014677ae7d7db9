package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the command.
type bench struct {
	corpus, lastro, dir string
	only                []string
	tags, rounds        int
	craneJobs           int
	regsync             regsyncSettings
	distance, limit     time.Duration

	registry   string // binary
	upstream   *registry
	contenders []contender
	made       int
}

// scenario is one comparison.
type scenario struct {
	name, about string
	small       bool // images
	trip        time.Duration
	again       bool // what is measured is a run after the first
}

func (b *bench) scenarios(names []string) ([]scenario, error) {
	images := "images of " + strings.Join(b.only, ", ") + " into an empty target"
	known := []scenario{
		{name: "A", about: images},
		{name: "B", about: fmt.Sprintf("%s, %v away", images, b.distance), trip: b.distance},
		{name: "C", about: fmt.Sprintf("%d small images into an empty target", b.tags), small: true},
		{name: "D", about: fmt.Sprintf("%d small images, nothing new", b.tags), small: true, again: true},
	}
	var chosen []scenario
	for _, name := range names {
		i := slices.IndexFunc(known, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
		if !known[i].small && b.corpus == "" {
			return nil, fmt.Errorf("scenario %s needs -corpus", name)
		}
		chosen = append(chosen, known[i])
	}
	return chosen, nil
}

// result is one line of a table.
type result struct {
	Scenario  string `json:"scenario"`
	About     string `json:"about"`
	Contender string `json:"contender"`
	cost             // medians, each for itself
	Rounds    []cost `json:"rounds"`
	traffic
	Tags  int      `json:"tags"`
	Wrong []string `json:"wrong"` // tags that are not as upstream afterwards
}

func (b *bench) run(ctx context.Context, scenarios, contenders []string) ([]result, error) {
	chosen, err := b.scenarios(scenarios)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "peers")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if b.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := b.build(ctx, contenders); err != nil {
		return nil, err
	}
	if b.upstream, err = startRegistry(ctx, b.registry, filepath.Join(b.dir, "upstream")); err != nil {
		return nil, err
	}
	defer b.upstream.stop()
	repos, err := b.fill(ctx, chosen)
	if err != nil {
		return nil, err
	}
	var results []result
	for _, s := range chosen {
		found, err := b.compare(ctx, s, repos[s.small])
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.name, err)
		}
		results = append(results, found...)
	}
	return results, nil
}

// build makes the programs that are compared.
func (b *bench) build(ctx context.Context, names []string) error {
	var err error
	if b.registry, err = tool(ctx, "registry"); err != nil {
		return err
	}
	for _, name := range names {
		c, err := b.contender(ctx, name)
		if errors.Is(err, exec.ErrNotFound) {
			log.Printf("%s is left out: %v", name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.contenders = append(b.contenders, c)
	}
	return nil
}

func (b *bench) contender(ctx context.Context, name string) (contender, error) {
	switch name {
	case "lastro":
		binary, err := b.ours(ctx)
		return lastro(binary), err
	case "regsync":
		binary, err := tool(ctx, name)
		return regsync(binary, b.regsync), err
	case "crane":
		binary, err := tool(ctx, name)
		return crane(binary, b.craneJobs), err
	case "skopeo":
		binary, err := exec.LookPath(name)
		return skopeo(binary), err
	}
	return contender{}, errors.New("no such contender")
}

// ours is lastro's binary.
func (b *bench) ours(ctx context.Context) (string, error) {
	if b.lastro != "" {
		return b.lastro, nil
	}
	binary := filepath.Join(b.dir, "lastro")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "lastro/cmd/lastro").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return binary, nil
}

// tool builds a peer that comes as a Go module and returns its binary.
func tool(ctx context.Context, name string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "lastro").Output()
	if err != nil {
		return "", fmt.Errorf("find the module lastro: %w", err)
	}
	c := exec.CommandContext(ctx, "go", "tool", "-n", "-modfile=.ci/tools.mod", name)
	c.Dir = strings.TrimSpace(string(root))
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// fill brings the upstream what the scenarios need, and returns the
// repositories: the real images' under false, the small ones' under true.
func (b *bench) fill(ctx context.Context, scenarios []scenario) (map[bool][]string, error) {
	repos := map[bool][]string{}
	for _, small := range []bool{false, true} {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.small == small }) {
			continue
		}
		layout, prefixes := b.corpus, b.only
		if small {
			layout, prefixes = filepath.Join(b.dir, "small"), []string{"small/"}
			if err := makeSmall(layout, b.tags); err != nil {
				return nil, err
			}
		}
		images, err := imagesOf(layout, prefixes)
		if err != nil {
			return nil, err
		}
		log.Printf("filling the upstream with %d images", len(images))
		if err := pushAll(ctx, layout, b.upstream.addr, images); err != nil {
			return nil, err
		}
		for _, i := range images {
			repos[small] = append(repos[small], i.repo)
		}
		slices.Sort(repos[small])
		repos[small] = slices.Compact(repos[small])
	}
	return repos, nil
}

// target is where a contender copies to.
type target struct {
	folder string // a registry's, or lastro's data
	config string
	filled bool
}

func (b *bench) target(c contender) *target {
	b.made++
	name := filepath.Join(b.dir, fmt.Sprintf("%s-%d", c.name, b.made))
	return &target{folder: name, config: name + ".conf"}
}

// content is the folder that a registry can serve.
func (t *target) content(c contender) string {
	if c.keeps {
		return filepath.Join(t.folder, "registry")
	}
	return t.folder
}

// compare runs the contenders in turn: one round to count, the others by the clock.
func (b *bench) compare(ctx context.Context, s scenario, repos []string) ([]result, error) {
	want, err := digestsOf(ctx, b.upstream.addr, repos)
	if err != nil {
		return nil, err
	}
	results := make([]result, len(b.contenders))
	targets := make([]*target, len(b.contenders))
	r := run{bench: b, scenario: s, repos: repos, want: want}
	for i, c := range b.contenders {
		results[i] = result{Scenario: s.name, About: s.about, Contender: c.name, Tags: len(want)}
		targets[i] = b.target(c)
		if results[i].traffic, err = r.counted(ctx, c, targets[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		log.Printf("%s     %-8s %d requests, %.1f MB", s.name, c.name, results[i].Requests, float64(results[i].Bytes)/1e6)
	}
	for round := range b.rounds {
		for turn := range b.contenders {
			i := (turn + round) % len(b.contenders) // each is first once
			c := b.contenders[i]
			if !s.again {
				targets[i] = b.target(c)
			}
			took, err := r.timed(ctx, c, targets[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			log.Printf("%s %d/%d %-8s %6.2f s %6.2f CPU-s", s.name, round+1, b.rounds, c.name, took.Wall, took.CPU)
			results[i].Rounds = append(results[i].Rounds, took)
			results[i].Wrong = took.wrong
		}
	}
	for i := range results {
		results[i].cost = median(results[i].Rounds)
		if s.again {
			err = errors.Join(err, os.RemoveAll(targets[i].folder))
		}
	}
	return results, err
}

func median(all []cost) cost {
	if len(all) == 0 {
		return cost{}
	}
	return cost{
		Wall:     middle(all, func(c cost) float64 { return c.Wall }),
		CPU:      middle(all, func(c cost) float64 { return c.CPU }),
		Memory:   middle(all, func(c cost) int64 { return c.Memory }),
		Upstream: middle(all, func(c cost) float64 { return c.Upstream }),
	}
}

func middle[T cmp.Ordered](all []cost, of func(cost) T) T {
	var values []T
	for _, c := range all {
		values = append(values, of(c))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// run is what the runs of a scenario share.
type run struct {
	*bench
	scenario
	repos []string
	want  map[string]string // repo:tag → digest
}

// counted runs a contender with every request counted. Its target is filled
// afterwards, if it is to be run against it again.
func (r run) counted(ctx context.Context, c contender, t *target) (traffic, error) {
	if r.again {
		if _, err := r.copy(ctx, c, t, r.upstream.addr); err != nil {
			return traffic{}, err
		}
	}
	counter, server := count(r.upstream.addr)
	defer server.Close()
	if _, err := r.copy(ctx, c, t, server.Listener.Addr().String()); err != nil {
		return traffic{}, err
	}
	return counter.taken(), r.drop(t)
}

// timed runs a contender by the clock.
func (r run) timed(ctx context.Context, c contender, t *target) (cost, error) {
	addr := r.upstream.addr
	if r.trip > 0 {
		l, err := far(addr, r.trip)
		if err != nil {
			return cost{}, err
		}
		defer l.Close()
		addr = l.Addr().String()
	}
	took, err := r.copy(ctx, c, t, addr)
	return took, errors.Join(err, r.drop(t))
}

// drop removes a target that is not used again. Those of small files stay
// until the end, because ext4 looks long at inodes just deleted.
func (r run) drop(t *target) error {
	if r.again || r.small {
		return nil
	}
	return os.RemoveAll(t.folder)
}

// copy runs a contender once and looks at what it made. What lastro made is
// as upstream, or that is the error; of a peer it is noted.
func (r run) copy(ctx context.Context, c contender, t *target, upstream string) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	var took cost
	var err error
	if c.keeps { // nothing serves its folder meanwhile
		took, err = r.measured(ctx, c, nil, job{upstream, t.folder, r.repos, t.config})
		if err != nil {
			return cost{}, err
		}
	}
	made, err := startRegistry(ctx, r.registry, t.content(c))
	if err != nil {
		return cost{}, err
	}
	defer made.stop()
	if !c.keeps {
		took, err = r.measured(ctx, c, made, job{upstream, made.addr, r.repos, t.config})
		if err != nil {
			return cost{}, err
		}
	}
	took.wrong, err = differences(ctx, made.addr, r.want, c.local)
	if err == nil && c.keeps && len(took.wrong) > 0 {
		err = fmt.Errorf("%d of %d tags are not as upstream: %s", len(took.wrong), len(r.want), strings.Join(took.wrong, ", "))
	}
	return took, err
}

// measured runs a contender's commands. into is the registry that it pushes
// to, which is part of what it takes; nil: none.
func (r run) measured(ctx context.Context, c contender, into *registry, j job) (cost, error) {
	commands, err := c.commands(j)
	if err != nil {
		return cost{}, err
	}
	syscall.Sync() // what others wrote is not its work
	before, err := r.used(into)
	if err != nil {
		return cost{}, err
	}
	took, err := runAll(ctx, commands)
	if err != nil {
		return cost{}, err
	}
	after, err := r.used(into)
	if err != nil {
		return cost{}, err
	}
	took.add(usage{after[1].CPU - before[1].CPU, after[1].Memory})
	took.Upstream = (after[0].CPU - before[0].CPU).Seconds()
	return took, nil
}

// used is what the upstream and a contender's registry took so far.
func (r run) used(into *registry) (u [2]usage, err error) {
	if u[0], err = r.bench.upstream.used(); err != nil {
		return u, err
	}
	u[1], err = into.used()
	return u, err
}
