package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store"
)

// tagsEach is how many tags a repository has.
const tagsEach = 100

// startUp says how long it takes from the start of lastro to its first answer
// to a pull, over so many tags, and how much memory it has then.
func (b *bench) startUp(tags int) (met bool, err error) {
	data := filepath.Join(b.dir, "many")
	if err := fillTags(data, tags); err != nil {
		return false, err
	}
	if err := b.buildLastro(); err != nil {
		return false, err
	}
	ports, err := freeAddresses(2)
	if err != nil {
		return false, err
	}
	file := filepath.Join(b.dir, "many.yaml")
	if err := b.configure(file, data, ports); err != nil {
		return false, err
	}
	all := servers{}
	defer all.stop()
	for range b.rounds {
		all.stop()
		began := time.Now()
		if err := all.add("lastro", ports[0], b.lastro, "-c", file, "--log-level", "warn", "serve"); err != nil {
			return false, err
		}
		c, err := dial(ports[0])
		if err == nil {
			_, err = c.ask("GET /v2/many/0/manifests/v0")
			c.Close()
		}
		if err != nil {
			return false, err
		}
		took := time.Since(began)
		time.Sleep(b.length) // what goes on behind the first answer
		resident, err := all["lastro"].resident()
		if err != nil {
			return false, err
		}
		met = took < time.Second && resident < 60<<20
		fmt.Printf("start over %d tags\t%v to the first pull\t%d MiB resident, idle\n", tags, took.Round(time.Millisecond), resident>>20)
	}
	return met, nil
}

func (s *server) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int64
	_, err = fmt.Sscan(rest, &kib)
	return kib << 10, err
}

// fillTags makes a data folder with one small image under many tags.
func fillTags(dir string, tags int) (err error) {
	s, err := store.Open(dir, store.Options{Now: time.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + digest.FromString("{}").String() + `","size":2},"layers":[]}`)
	if _, err := ingest(s, "", []byte("{}")); err != nil {
		return err
	}
	desc, err := ingest(s, ocispec.MediaTypeImageManifest, raw)
	if err != nil {
		return err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(64) // who waits for the disk waits together
	for i := range tags {
		g.Go(func() error {
			_, err := s.Publish(context.Background(), mirror.Publication{
				Repo: fmt.Sprintf("many/%d", i/tagsEach), Tag: fmt.Sprintf("v%d", i%tagsEach), Root: desc, Manifests: []mirror.Manifest{m}, By: "bench",
			})
			return err
		})
	}
	return g.Wait()
}
