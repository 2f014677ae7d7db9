package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/check"
	"lastro/store/vault"
)

// sources are where content can be brought back from: the vaults but the one named,
// then the upstreams of the rules.
func (s *site) sources(but string) (all []vault.RepairSource) {
	for _, b := range s.cfg().Backup {
		if b.Name != but {
			all = append(all, &vaultSource{site: s, name: b.Name})
		}
	}
	return append(all, upstreamSource{s, s.served().rules})
}

// repairs says from where a vault is repaired.
func (s *site) repairs(vaultName string) *vault.RepairOptions {
	return &vault.RepairOptions{Store: s.store, Others: s.sources(vaultName), Dir: s.cfg().Data}
}

// forCheck is a source of the store's own check.
type forCheck struct{ vault.RepairSource }

func (f forCheck) Fetch(ctx context.Context, repos []string, c store.Content) (io.ReadCloser, error) {
	return f.RepairSource.Fetch(ctx, repos, vault.RepairContent(c))
}

// contentSources are what the store is healed from.
func (s *site) contentSources() (all []check.Source) {
	for _, source := range s.sources("") {
		all = append(all, forCheck{source})
	}
	return all
}

// vaultSource brings content from a vault, which is opened when it is first needed.
// One that cannot be opened is left out, and is said.
type vaultSource struct {
	site *site
	name string

	open  sync.Once
	vault *vault.Vault
	err   error
}

func (v *vaultSource) String() string { return "vault " + v.name }

// Fetch is for [vault.RepairSource].
func (v *vaultSource) Fetch(ctx context.Context, _ []string, c vault.RepairContent) (io.ReadCloser, error) {
	v.open.Do(func() {
		if v.vault, v.err = v.site.vault(ctx, v.name); v.err != nil {
			v.site.log.Warn("the vault cannot be opened and is no source", "err", v.err)
		}
	})
	if v.err != nil {
		return nil, v.err
	}
	body, _, err := v.vault.OpenBlob(ctx, c.Digest, 0)
	return body, err
}

// upstreamSource brings content by digest from where a repository comes from.
type upstreamSource struct {
	site  *site
	rules *mirror.Directory
}

func (u upstreamSource) String() string { return "upstream" }

func (u upstreamSource) Fetch(ctx context.Context, repos []string, c vault.RepairContent) (io.ReadCloser, error) {
	var failed error
	for _, repo := range repos {
		for _, origin := range u.rules.Origins(repo) {
			body, err := u.fetch(ctx, origin.Upstream, c)
			if err == nil {
				return body, nil
			}
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil {
		failed = fmt.Errorf("no rule mirrors what needs it: %w", fs.ErrNotExist)
	}
	return nil, failed
}

func (u upstreamSource) fetch(ctx context.Context, from mirror.Reference, c vault.RepairContent) (io.ReadCloser, error) {
	src, err := u.site.source(from.Host)
	if err != nil {
		return nil, err
	}
	if c.Manifest {
		_, raw, err := src.Manifest(ctx, from.Repository, c.Digest.String())
		return io.NopCloser(bytes.NewReader(raw)), err
	}
	body, start, err := src.Blob(ctx, from.Repository, c.Descriptor, 0)
	if err == nil && start != 0 {
		err = errors.Join(fmt.Errorf("upstream %s: the blob begins at %d", from.Host, start), body.Close())
	}
	return body, err
}
