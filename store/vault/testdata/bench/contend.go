package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// cost is what one command took.
type cost struct {
	wall, cpu time.Duration
	safe      time.Duration // until what it wrote was on disk
	memory    int64
	requests  int
}

// result is one round of a contender. The floor has no second backup.
type result struct{ first, again, restore cost }

func (r result) String() string {
	return fmt.Sprintf("first %v, again %v, restore %v", r.first, r.again, r.restore)
}

func (c cost) String() string {
	return fmt.Sprintf("%.2f s (%.2f CPU-s, %d MiB, %d requests)", c.wall.Seconds(), c.cpu.Seconds(), c.memory>>20, c.requests)
}

// tool is how a contender is called.
type tool struct {
	env                   []string
	init                  [][]string
	first, again, restore []string
	back                  string // the data folder that restore makes
}

// contend runs a contender once, against a server of its own.
func (b *bench) contend(ctx context.Context, name string) (r result, err error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	gw, err := b.startGateway(ctx, dir)
	if err != nil {
		return r, err
	}
	defer gw.stop()
	t, err := b.tool(name, dir, gw.url)
	if err != nil {
		return r, err
	}
	for _, args := range t.init {
		if _, err := gw.measure(ctx, t.env, args); err != nil {
			return r, err
		}
	}
	if r.first, err = gw.measure(ctx, t.env, t.first); err != nil {
		return r, err
	}
	if t.again != nil {
		if r.again, err = gw.measure(ctx, t.env, t.again); err != nil {
			return r, err
		}
	}
	if !b.restore {
		return r, nil
	}
	if r.restore, err = gw.measure(ctx, t.env, t.restore); err != nil {
		return r, err
	}
	got, err := stockOf(t.back)
	if err == nil && got != b.stored {
		err = fmt.Errorf("it restored %+v of %+v", got, b.stored)
	}
	return r, err
}

func (b *bench) tool(name, dir, url string) (tool, error) {
	keys := []string{"AWS_ACCESS_KEY_ID=access", "AWS_SECRET_ACCESS_KEY=secretsecret"}
	back := filepath.Join(dir, "back")
	from := registryOf(b.data)
	switch name {
	case "floor":
		return tool{env: keys, first: []string{b.self, "-put", url + "/bench", b.data}, restore: []string{b.self, "-get", url + "/bench", b.data, back}, back: back}, nil
	case "lastro", "lastro-age":
		here, there := filepath.Join(dir, "here.yaml"), filepath.Join(dir, "there.yaml")
		// Each round begins with a ledger that knows of no vault.
		data := filepath.Join(dir, "data")
		err := os.CopyFS(data, os.DirFS(b.data))
		more := ""
		if name == "lastro-age" && err == nil {
			more, err = encrypted(dir)
		}
		err = errors.Join(err, configure(here, data, url, more), configure(there, back, url, more))
		return tool{
			first: []string{b.lastro, "-q", "-c", here, "backup"}, again: []string{b.lastro, "-q", "-c", here, "backup"},
			restore: []string{b.lastro, "-q", "-c", there, "restore"}, back: back,
		}, err
	case "rclone":
		env := append(keys, "RCLONE_CONFIG="+filepath.Join(dir, "none"), "RCLONE_CONFIG_GW_TYPE=s3", "RCLONE_CONFIG_GW_PROVIDER=Other", "RCLONE_CONFIG_GW_ENV_AUTH=true", "RCLONE_CONFIG_GW_ENDPOINT="+url)
		sync := []string{"rclone", "sync", "-q", "--transfers", "8", "--checkers", "8", from, "gw:bench/registry"}
		return tool{env: env, first: sync, again: sync, restore: []string{"rclone", "sync", "-q", "--transfers", "8", "--checkers", "8", "gw:bench/registry", registryOf(back)}, back: back}, nil
	case "restic":
		env := append(keys, "RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=s3:"+url+"/bench", "RESTIC_CACHE_DIR="+filepath.Join(dir, "cache"))
		backup := []string{"restic", "-q", "-o", "s3.connections=8", "backup", from}
		return tool{env: env, init: [][]string{{"restic", "-q", "init"}}, first: backup, again: backup,
			restore: []string{"restic", "-q", "-o", "s3.connections=8", "restore", "latest", "--target", back}, back: filepath.Join(back, b.data)}, nil
	}
	return tool{}, fmt.Errorf("there is no contender %q", name)
}

// encrypted is what a vault's configuration says more when it is to be encrypted.
func encrypted(dir string) (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	key := filepath.Join(dir, "vault.age")
	return fmt.Sprintf(", encrypt: [%s], identity: '${file:%s}'", id.Recipient(), key), os.WriteFile(key, []byte(id.String()+"\n"), 0o600)
}

func configure(path, data, url, more string) error {
	text := fmt.Sprintf("data: %s\nbackup:\n  - {name: main, to: 's3://bench/vault', s3: {endpoint: %q, region: us-east-1, path-style: true, credentials: {access-key: access, secret-key: secretsecret}}%s}\n", data, url, more)
	return os.WriteFile(path, []byte(text), 0o600)
}

// gateway is a server with an empty bucket.
type gateway struct {
	url string
	log string
	cmd *exec.Cmd
}

func (b *bench) startGateway(ctx context.Context, dir string) (*gateway, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	root := filepath.Join(dir, "server")
	if err := errors.Join(l.Close(), os.MkdirAll(filepath.Join(root, "bench"), 0o700)); err != nil {
		return nil, err
	}
	g := &gateway{url: "http://" + addr, log: filepath.Join(dir, "access.log")}
	g.cmd = exec.CommandContext(ctx, b.server, "--quiet", "--access-log", g.log, "--port", addr, "posix", root)
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=access", "ROOT_SECRET_KEY=secretsecret")
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if resp, err := http.Get(g.url); err == nil {
			return g, resp.Body.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	g.stop()
	return nil, errors.New("versitygw does not answer")
}

func (g *gateway) stop() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait() // it was killed
}

func (g *gateway) requests() int {
	raw, _ := os.ReadFile(g.log) // none yet
	return bytes.Count(raw, []byte("\n"))
}

func (g *gateway) measure(ctx context.Context, env, args []string) (cost, error) {
	before := g.requests()
	if err := syncAll(g.log); err != nil {
		return cost{}, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}, env...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(began)
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	err = syncAll(g.log)
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), time.Since(began), u.Maxrss << 10, g.requests() - before}, err
}

// syncAll brings all on disk that is written on the file system of a file.
func syncAll(path string) error {
	f, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), err
}

// print writes the tables.
func (b *bench) print(names []string, all map[string][]result) {
	fmt.Printf("%d blobs, %.1f MB, %d rounds\n", b.stored.blobs, float64(b.stored.bytes)/1e6, b.rounds)
	for _, part := range []struct {
		name string
		of   func(result) cost
	}{
		{"First backup", func(r result) cost { return r.first }},
		{"Again, nothing new", func(r result) cost { return r.again }},
		{"Restore into an empty folder", func(r result) cost { return r.restore }},
	} {
		fmt.Printf("\n**%s**\n\n| | wall s | on disk s | CPU s | CPU s per GB | peak MiB | requests |\n|---|---|---|---|---|---|---|\n", part.name)
		for _, name := range names {
			c := median(all[name], part.of)
			if c.wall == 0 {
				continue // the floor has no second backup, and not all is restored
			}
			fmt.Printf("| %s | %.2f | %.2f | %.2f | %.2f | %d | %d |\n", name, c.wall.Seconds(), c.safe.Seconds(), c.cpu.Seconds(), c.cpu.Seconds()/float64(b.stored.bytes)*1e9, c.memory>>20, c.requests)
		}
	}
}

func median(rounds []result, of func(result) cost) cost {
	var list []cost
	for _, r := range rounds {
		list = append(list, of(r))
	}
	slices.SortFunc(list, func(a, b cost) int { return cmp.Compare(a.wall, b.wall) })
	return list[len(list)/2]
}
