package check

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
)

// rounds bounds how often a repair looks for what only shows when something else
// is whole again: the layers of a manifest that was lost.
const rounds = 8

// repair heals what it can, or what is bad only goes out of service. It says of each
// problem whether it is gone.
func (c *check) repair(ctx context.Context) error {
	if !c.takes() || len(c.problems) == 0 || c.refuses() {
		return nil
	}
	release, err := c.share(ctx)
	if err != nil {
		return err
	}
	defer release()
	if c.o.Repair {
		return c.healAll(ctx)
	}
	return c.takeOutAll(ctx)
}

func (c *check) share(ctx context.Context) (release func(), err error) {
	if c.o.Share == nil {
		return func() {}, nil
	}
	return c.o.Share(ctx)
}

// takeOutAll takes all bad bytes out of service. What nobody needs is mended by that.
func (c *check) takeOutAll(ctx context.Context) error {
	for _, b := range c.bad {
		problem := c.problems[key{kind: b.kind, digest: b.Digest, path: layout.Data(b.Digest)}]
		if err := c.outOfService(ctx, b); err != nil {
			return err
		}
		problem.Repaired = b.healed || b.taken != "" && len(b.repos) == 0
	}
	return c.askAgain(ctx)
}

// outOfService takes bad bytes out of service, once. Its error is ctx's.
func (c *check) outOfService(ctx context.Context, b *badContent) error {
	if b.kind != Truncated && b.kind != Corrupt {
		return ctx.Err()
	}
	if b.taken == "" {
		if err := c.takeOut(ctx, b); err != nil || b.taken == "" {
			return err
		}
	}
	b.kind = Missing // from here on; its problem says what it was
	return ctx.Err()
}

// takeOut takes bad bytes out of service. Its error is ctx's.
func (c *check) takeOut(ctx context.Context, b *badContent) error {
	if !c.mayTake() {
		return ctx.Err()
	}
	name, taken, err := c.TakeOut(ctx, b.Digest, b.info)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist): // somebody else did
		b.kind = Missing
	case err != nil:
		c.o.Log.Error("bad content cannot be taken out of service", "digest", b.Digest, "err", err)
	case taken:
		b.taken = name
		c.o.Log.Warn("bad content was taken out of service", "digest", b.Digest, "what", b.detail, "to", name)
	default:
		b.healed = true // it came again, and what comes is hashed
	}
	return nil
}

// healAll heals until nothing more shows.
func (c *check) healAll(ctx context.Context) error {
	for range rounds {
		before := len(c.problems)
		healed, err := c.healContents(ctx)
		if err != nil {
			return err
		}
		goesOn, err := c.mend(ctx)
		if err != nil {
			return err
		}
		if err := c.confirmNew(ctx); err != nil {
			return err
		}
		if healed == 0 && !goesOn && len(c.problems) == before {
			break
		}
	}
	if err := c.askAgain(ctx); err != nil {
		return err
	}
	return c.judge(ctx)
}

// askAgain lets the next sync bring what no source had. It misses by itself what is
// of an image; for what is of a referrer it would not ask before the day is over.
func (c *check) askAgain(ctx context.Context) error {
	for d, b := range c.bad {
		if b.healed || b.kind != Missing {
			continue
		}
		above, err := c.above(ctx, d)
		if err != nil {
			return err
		}
		for repo := range b.repos {
			// A publication that ends only now may have found the content here.
			err := c.Quiet(repo, "", func() error { return c.Ledger().RecordReferrersUnchecked(ctx, repo, above...) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// above are d, the manifests that refer to it, their subjects, and so on.
func (c *check) above(ctx context.Context, d digest.Digest) ([]digest.Digest, error) {
	all, seen := []digest.Digest{d}, map[digest.Digest]bool{d: true}
	for i := 0; i < len(all); i++ {
		next, err := c.Ledger().Parents(ctx, all[i])
		if err != nil {
			return nil, err
		}
		node, err := c.Ledger().Manifest(ctx, all[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if node.Subject != "" {
			next = append(next, node.Subject)
		}
		for _, up := range next {
			if !seen[up] {
				seen[up] = true
				all = append(all, up)
			}
		}
	}
	return all, nil
}

// healContents heals what is missing or wrong, and says how much is right now.
func (c *check) healContents(ctx context.Context) (healed int, err error) {
	for _, b := range c.bad {
		if b.healed {
			continue
		}
		if err := c.heal(ctx, b); err != nil {
			return healed, err
		}
		if b.healed {
			healed++
		}
	}
	return healed, nil
}

// heal takes bad bytes out of service and brings good ones. What cannot be read may
// be right, and stays. Its error is ctx's.
func (c *check) heal(ctx context.Context, b *badContent) error {
	if err := c.outOfService(ctx, b); err != nil || b.healed || b.kind != Missing {
		return err
	}
	if len(b.repos) == 0 {
		b.healed = true
		return ctx.Err()
	}
	for _, s := range c.o.Sources {
		if err := c.bring(ctx, s, b); err == nil {
			b.healed, b.source = true, s.String()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// bring stores content from a source. It is hashed before it has its name.
func (c *check) bring(ctx context.Context, s Source, b *badContent) error {
	repos := slices.Sorted(maps.Keys(b.repos))
	desc := b.Descriptor
	fetch := func(ctx context.Context, _ int64) (io.ReadCloser, int64, error) {
		body, err := s.Fetch(ctx, repos, b.Content)
		return body, 0, err
	}
	if b.Manifest {
		raw, err := c.small(ctx, s, repos, b.Content)
		if err != nil {
			return err
		}
		desc.Size = int64(len(raw))
		fetch = func(context.Context, int64) (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(raw)), 0, nil
		}
	}
	if err := c.Ingest(ctx, desc, fetch); err != nil {
		return err
	}
	return c.Settle(desc.Digest)
}

// small fetches a manifest, whose length nobody may know.
func (c *check) small(ctx context.Context, s Source, repos []string, of store.Content) ([]byte, error) {
	body, err := s.Fetch(ctx, repos, of)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, mirror.MaxManifest+1))
	if err == nil && of.Digest.Algorithm().FromBytes(raw) != of.Digest {
		err = fmt.Errorf("%s: manifest %s: %w", s, of.Digest, layout.ErrDigest)
	}
	return raw, err
}

// mend makes links again and records what the ledger lacks. Who needs content is
// looked at too: only now it may show what that needs in turn. It goes on when some
// could be mended and some not: a tag comes back once its manifest is served.
func (c *check) mend(ctx context.Context) (goesOn bool, err error) {
	mended, failed := 0, 0
	for _, u := range c.all() {
		e, err := c.alone(ctx, u, func(e *exam) {
			for _, f := range e.faults {
				switch {
				case f.mend == nil:
				case f.mend(ctx) == nil:
					mended++
				default: // its fault is there when it is looked at again
					failed++
				}
			}
		})
		if err != nil {
			return false, err
		}
		c.note(e)
	}
	return mended > 0 && failed > 0, nil
}

// all are the suspects, and the manifests that are bad content, where they are
// needed; what others stand on comes first.
func (c *check) all() []unit {
	units := slices.Collect(maps.Values(c.suspects))
	for d, b := range c.bad {
		for repo := range b.repos {
			k := unitKey{manifestUnit, repo, "", d}
			if _, ok := c.suspects[k]; !ok && b.Manifest {
				c.suspects[k] = unit{unitKey: k}
				units = append(units, c.suspects[k])
			}
		}
	}
	slices.SortFunc(units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(b.what, a.what), cmp.Compare(a.repo, b.repo), cmp.Compare(a.tag, b.tag), cmp.Compare(a.digest, b.digest))
	})
	return units
}

// confirmNew looks once more at content that a repair has shown.
func (c *check) confirmNew(ctx context.Context) error {
	for _, d := range slices.Collect(maps.Keys(c.bad)) {
		b := c.bad[d]
		if _, ok := c.problems[key{kind: b.kind, digest: d, path: layout.Data(d)}]; ok || b.healed || b.info != nil {
			continue
		}
		if err := c.confirmContent(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// judge looks at everything again: what is not wrong any more was repaired.
func (c *check) judge(ctx context.Context) error {
	left, lacked := map[key]bool{}, map[digest.Digest]bool{}
	for _, u := range c.all() {
		e, err := c.alone(ctx, u, nil)
		if err != nil {
			return err
		}
		for _, f := range e.faults {
			left[f.key()] = true
		}
		for _, l := range e.lacks {
			lacked[l.Digest] = true
		}
	}
	for k, p := range c.problems {
		switch {
		case p.Kind == Foreign, p.Kind == Orphaned, p.Kind == Abandoned:
		case p.Repo == "" && p.Digest != "":
			// What is not here and nobody needs any more was what a bad link said.
			if b := c.bad[p.Digest]; b != nil && (b.healed || b.kind == Missing && !lacked[p.Digest]) {
				p.Repaired, p.Source = true, b.source
			}
		case p.Repo != "":
			p.Repaired = !left[k]
		}
	}
	return nil
}
