package pull

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/serve"
)

// Lists lists what the snapshot has, and with Options.Local what is here as well.
func (s *Snapshot) Lists(here serve.Lists) serve.Lists { return lists{s, here} }

type lists struct {
	*Snapshot
	here serve.Lists
}

// Repositories are those of the snapshot's root.
func (l lists) Repositories(ctx context.Context, last string, n int) ([]string, bool, error) {
	names, more := after(l.names, last, n)
	if !l.o.Local {
		return names, more, nil
	}
	local, moreHere, err := l.here.Repositories(ctx, last, n)
	names, more = merge(names, local, n, more || moreHere)
	return names, more, err
}

// Tags are those of the repository's index.
func (l lists) Tags(ctx context.Context, repo, last string, n int) ([]string, bool, error) {
	var names []string
	more := false
	r, err := l.repository(ctx, repo)
	if err == nil {
		names, more = after(r.names, last, n)
	}
	if !l.o.Local || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return names, more, err
	}
	local, moreHere, hereErr := l.here.Tags(ctx, repo, last, n)
	if errors.Is(hereErr, fs.ErrNotExist) {
		return names, more, err
	}
	names, more = merge(names, local, n, more || moreHere)
	return names, more, hereErr
}

// after is the first n of an ordered list after last, and whether more follow.
func after(list []string, last string, n int) ([]string, bool) {
	i, found := slices.BinarySearch(list, last)
	if found {
		i++
	}
	rest := list[i:]
	if n >= len(rest) {
		return slices.Clone(rest), false
	}
	return slices.Clone(rest[:n]), n > 0
}

// merge is the first n of two ordered lists.
func merge(a, b []string, n int, more bool) ([]string, bool) {
	all := slices.Concat(a, b)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > n {
		return all[:n], n > 0
	}
	return all, more
}

// Referrers are those that name a subject and those of the fallback tag.
func (l lists) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	list, err := l.inSnapshot(ctx, repo, subject)
	if err != nil || !l.o.Local {
		return list, err
	}
	local, err := l.here.Referrers(ctx, repo, subject)
	return join(list, local), err
}

// inSnapshot is empty for a repository that is not in the snapshot.
func (l lists) inSnapshot(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	r, err := l.repository(ctx, repo)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = l.walk(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	tagged, err := l.tagged(ctx, r, subject)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	tagged = slices.DeleteFunc(tagged, func(d ocispec.Descriptor) bool {
		_, served := r.manifests[d.Digest]
		return !served
	})
	return join(slices.Clone(r.referrers[subject]), tagged), nil
}

// tagged are what the index under the fallback tag lists. What is no such index
// lists nothing.
func (l lists) tagged(ctx context.Context, r *repository, subject digest.Digest) ([]ocispec.Descriptor, error) {
	desc, ok := r.tags[serve.FallbackTag(subject)]
	if !ok || desc.MediaType != ocispec.MediaTypeImageIndex {
		return nil, nil
	}
	known, _ := r.manifest(desc.Digest.String())
	raw, err := l.manifest(ctx, r, known)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if json.Unmarshal(raw, &index) != nil {
		return nil, nil
	}
	return index.Manifests, nil
}

// join adds what is not there yet.
func join(list, more []ocispec.Descriptor) []ocispec.Descriptor {
	for _, d := range more {
		if !slices.ContainsFunc(list, func(k ocispec.Descriptor) bool { return k.Digest == d.Digest }) {
			list = append(list, d)
		}
	}
	return list
}
