package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// atOnce is how many blobs the floor fetches beside each other.
const atOnce = 8

// fetchAll is the floor: every blob by GET into a file whose bytes are hashed
// on the way, synced. It has no names, no links, no retries.
func fetchAll(url, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	raw, err := getJSON(url + "/v2/app/tags/list")
	if err != nil {
		return err
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = atOnce
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, tag := range list.Tags {
		raw, err := getJSON(url + "/v2/app/manifests/" + tag)
		if err != nil {
			return err
		}
		var m struct {
			Config descriptor
			Layers []descriptor
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		for _, d := range append(m.Layers, m.Config) {
			g.Go(func() error { return fetch(url+"/v2/app/blobs/"+d.Digest, filepath.Join(dir, d.Digest), d.Digest) })
		}
	}
	return g.Wait()
}

func fetch(url, name, digest string) error {
	r, err := http.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, r.Body, make([]byte, 256<<10)); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != digest {
		return fmt.Errorf("got %s, want %s", got, digest)
	}
	return f.Sync()
}

func getJSON(url string) ([]byte, error) {
	r, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, r.Status)
	}
	return io.ReadAll(r.Body)
}
