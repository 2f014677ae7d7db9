package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/store"
	"lastro/store/collect"
	"lastro/store/serve"
	"lastro/store/serve/push"
)

// kept is how many tags of its own a client keeps: the oldest goes.
const kept = 10

// beside measures pushes without and with a collector, in turn.
func (b *bench) beside() (met bool, err error) {
	if _, err := os.Stat(b.many()); err != nil {
		if err := fill(b.many(), b.repos, b.tags); err != nil {
			return false, err
		}
	}
	err = withStore(b.many(), func(s *store.Store) error {
		server, err := registry(s)
		if err != nil {
			return err
		}
		defer server.Close()
		crowd := newCrowd(server, b.clients, b.repos)
		if _, err := crowd.work(b.length / 2); err != nil { // what is read once is read
			return err
		}
		without, with, did, err := b.inTurn(s, crowd)
		if err == nil {
			met = b.printPushes(without, with, did)
		}
		return err
	})
	return met, err
}

func (b *bench) inTurn(s *store.Store, c *crowd) (without, with []time.Duration, did string, err error) {
	var all taken
	runs := 0
	for range b.rounds {
		some, err := c.work(b.length)
		if err != nil {
			return nil, nil, "", err
		}
		without = append(without, some...)
		stop := make(chan struct{})
		var g errgroup.Group
		g.Go(func() error {
			n, deleted, err := collectUntil(s, stop)
			runs, all.Deleted = runs+n, all.Deleted+deleted
			return err
		})
		some, err = c.work(b.length)
		close(stop)
		if err := errors.Join(err, g.Wait()); err != nil {
			return nil, nil, "", err
		}
		with = append(with, some...)
	}
	return without, with, fmt.Sprintf("%d runs, %d contents removed", runs, all.Deleted), nil
}

// collectUntil collects without a pause.
func collectUntil(s *store.Store, stop chan struct{}) (runs, deleted int, err error) {
	for {
		select {
		case <-stop:
			return runs, deleted, nil
		default:
		}
		r, err := collect.Run(context.Background(), s, collect.Options{Grace: time.Second, Undo: time.Second, Now: time.Now})
		if err != nil || r.KeptByDoubt > 0 {
			return runs, deleted, errors.Join(err, fmt.Errorf("%d kept by doubt: %q", r.KeptByDoubt, r.Problems))
		}
		runs, deleted = runs+1, deleted+r.Deleted
	}
}

func (b *bench) printPushes(without, with []time.Duration, did string) (met bool) {
	for _, all := range [][]time.Duration{without, with} {
		slices.Sort(all)
	}
	at := func(all []time.Duration, percent int) time.Duration {
		return all[len(all)*percent/100].Round(10 * time.Microsecond)
	}
	ratio := float64(at(with, 99)) / float64(at(without, 99))
	met = ratio <= 1.2
	fmt.Fprintf(b.table, "\nwhile %d clients push and pull\tcollector\tpushes\tp50\tp99\tratio\ttarget\t\n", b.clients)
	fmt.Fprintf(b.table, "\tdoes not run\t%d\t%v\t%v\t\t\t\n", len(without), at(without, 50), at(without, 99))
	fmt.Fprintf(b.table, "\truns (%s)\t%d\t%v\t%v\t%.2f\t1.2%s\t\n", did, len(with), at(with, 50), at(with, 99), ratio, verdict(met))
	return met
}

func registry(s *store.Store) (*httptest.Server, error) {
	pushes, err := push.New(s, push.Options{Pushable: func(string) bool { return true }, MayPull: func(*http.Request, string) bool { return true }})
	if err != nil {
		return nil, err
	}
	h, err := serve.New(s, serve.Options{Push: pushes})
	if err != nil {
		return nil, err
	}
	return httptest.NewServer(h), nil
}

// crowd is clients that push and pull.
type crowd struct {
	server *httptest.Server
	all    []*client
}

type client struct {
	*crowd
	http   *http.Client
	repo   string
	others int // repositories to pull from
	pushed int
}

func newCrowd(server *httptest.Server, clients, repos int) *crowd {
	c := &crowd{server: server}
	for i := range clients {
		c.all = append(c.all, &client{crowd: c, http: &http.Client{Transport: &http.Transport{}}, repo: fmt.Sprintf("push/%d", i), others: repos})
	}
	return c
}

// work has all push and pull for a while, and says how long pushes took.
func (c *crowd) work(length time.Duration) (took []time.Duration, err error) {
	var over atomic.Bool
	timer := time.AfterFunc(length, func() { over.Store(true) })
	defer timer.Stop()
	var g errgroup.Group
	var mu sync.Mutex
	for _, one := range c.all {
		g.Go(func() error {
			for !over.Load() {
				began := time.Now()
				if err := one.push(); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				if err := errors.Join(one.pull(), one.deleteOldest()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return took, g.Wait()
}

// push pushes an image: each blob unless it is there, then the manifest.
func (c *client) push() error {
	tag := tagName(c.pushed)
	c.pushed++
	m := newImage(c.repo, tag)
	for _, blob := range m.blobs {
		d := digest.FromBytes(blob).String()
		status, err := c.ask("HEAD", "/v2/"+c.repo+"/blobs/"+d, "", nil)
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			continue
		}
		if err := c.must(http.StatusCreated, "POST", "/v2/"+c.repo+"/blobs/uploads/?digest="+d, "application/octet-stream", blob); err != nil {
			return err
		}
	}
	return c.must(http.StatusCreated, "PUT", "/v2/"+c.repo+"/manifests/"+tag, ocispec.MediaTypeImageManifest, m.manifest)
}

// pull pulls the image that it pushed last, as somebody would elsewhere.
func (c *client) pull() error {
	tag := tagName(c.pushed - 1)
	if err := c.must(http.StatusOK, "GET", "/v2/"+c.repo+"/manifests/"+tag, "", nil); err != nil {
		return err
	}
	for _, blob := range newImage(c.repo, tag).blobs {
		if err := c.must(http.StatusOK, "GET", "/v2/"+c.repo+"/blobs/"+digest.FromBytes(blob).String(), "", nil); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) deleteOldest() error {
	if c.pushed <= kept {
		return nil
	}
	return c.must(http.StatusAccepted, "DELETE", "/v2/"+c.repo+"/manifests/"+tagName(c.pushed-kept-1), "", nil)
}

func (c *client) must(want int, method, path, kind string, body []byte) error {
	status, err := c.ask(method, path, kind, body)
	if err == nil && status != want {
		err = fmt.Errorf("%s %s: %d", method, path, status)
	}
	return err
}

func (c *client) ask(method, path, kind string, body []byte) (status int, err error) {
	r, err := http.NewRequest(method, c.server.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", kind)
	w, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer w.Body.Close()
	_, err = io.Copy(io.Discard, w.Body)
	return w.StatusCode, err
}
