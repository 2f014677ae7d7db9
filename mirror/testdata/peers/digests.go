package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// digestsOf asks a registry for every tag of some repositories.
func digestsOf(ctx context.Context, addr string, repos []string) (map[string]string, error) {
	var mu sync.Mutex
	found := map[string]string{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, repo := range repos {
		g.Go(func() error {
			tags, err := tagsOf(ctx, addr, repo)
			if err != nil {
				return err
			}
			for _, tag := range tags {
				d, err := digestOf(ctx, addr, repo, tag)
				if err != nil {
					return err
				}
				mu.Lock()
				found[repo+":"+tag] = d
				mu.Unlock()
			}
			return nil
		})
	}
	return found, g.Wait()
}

func tagsOf(ctx context.Context, addr, repo string) ([]string, error) {
	resp, err := ask(ctx, http.MethodGet, "http://"+addr+"/v2/"+repo+"/tags/list?n=100000")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if more := resp.Header.Get("Link"); more != "" {
		return nil, fmt.Errorf("the tags of %s come in pages, which is not provided for", repo)
	}
	var list struct{ Tags []string }
	return list.Tags, json.NewDecoder(resp.Body).Decode(&list)
}

func digestOf(ctx context.Context, addr, repo, tag string) (string, error) {
	resp, err := ask(ctx, http.MethodHead, "http://"+addr+"/v2/"+repo+"/manifests/"+tag)
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Docker-Content-Digest"), resp.Body.Close()
}

var accepted = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// ask wants the status 200. The caller closes the body.
func ask(ctx context.Context, method, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accepted)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %w", method, url, resp.Status, resp.Body.Close())
	}
	return resp, nil
}

// differences are the tags that a registry has not with the digest they
// should have, under the name that local gives their repository.
func differences(ctx context.Context, addr string, want map[string]string, local func(repo string) string) ([]string, error) {
	var mu sync.Mutex
	var wrong []string
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for name, digest := range want {
		g.Go(func() error {
			repo, tag, _ := strings.Cut(name, ":")
			got, err := digestOf(ctx, addr, local(repo), tag)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && got == digest {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, name)
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(wrong)
	return wrong, err
}
