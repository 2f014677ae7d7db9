package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
	"lastro/store/ledger/file"
)

// Node is what the ledger knows of a manifest itself.
type Node struct {
	MediaType    string            `json:"media_type"`
	ArtifactType string            `json:"artifact_type,omitempty"` // its own, else its config's media type
	Size         int64             `json:"size"`
	Subject      digest.Digest     `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// edge is how a reference is stored.
type edge struct {
	Role mirror.Role `json:"role"`
	ocispec.Descriptor
}

// The buckets of one generation of the graph.
const (
	graphNode    = "node"
	graphChild   = "child"
	graphParent  = "parent"
	graphSubject = "subject"
	graphLink    = "link"
	graphHolder  = "holder"
)

// The keys beside the generations, which are numbers of eight bytes.
const (
	graphInUse   = "in use"
	graphFilling = "filling"
)

// graph is one generation.
type graph struct{ node, child, parent, subject, link, holder *bolt.Bucket }

func createGeneration(tx *bolt.Tx, generation uint64) error {
	b, err := tx.Bucket([]byte(bucketGraph)).CreateBucket(numberKey(generation))
	if err != nil {
		return err
	}
	for _, name := range []string{graphNode, graphChild, graphParent, graphSubject, graphLink, graphHolder} {
		if _, err := b.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	return nil
}

func openGraph(tx *bolt.Tx, generation []byte) (graph, error) {
	b := tx.Bucket([]byte(bucketGraph)).Bucket(generation)
	if b == nil {
		return graph{}, fmt.Errorf("there is no graph %x", generation)
	}
	g := graph{
		node:    b.Bucket([]byte(graphNode)),
		child:   b.Bucket([]byte(graphChild)),
		parent:  b.Bucket([]byte(graphParent)),
		subject: b.Bucket([]byte(graphSubject)),
		link:    b.Bucket([]byte(graphLink)),
		holder:  b.Bucket([]byte(graphHolder)), // nil in format 1
	}
	if g.node == nil || g.child == nil || g.parent == nil || g.subject == nil || g.link == nil {
		return graph{}, fmt.Errorf("graph %x is not whole", generation)
	}
	return g, nil
}

// readGraph is the generation that is read.
func readGraph(tx *bolt.Tx) (graph, error) {
	return openGraph(tx, tx.Bucket([]byte(bucketGraph)).Get([]byte(graphInUse)))
}

// writtenGraphs are the generations that are written: the one in use, and the
// one that a rebuild is filling.
func writtenGraphs(tx *bolt.Tx) ([]graph, error) {
	inUse, err := readGraph(tx)
	if err != nil {
		return nil, err
	}
	next := tx.Bucket([]byte(bucketGraph)).Get([]byte(graphFilling))
	if next == nil {
		return []graph{inUse}, nil
	}
	filling, err := openGraph(tx, next)
	return []graph{inUse, filling}, err
}

// One transaction records this many manifests, and about this many references:
// it ends with the manifest that reaches either. One manifest is never split.
const (
	closurePage = 256
	closureRefs = 5000
)

// isPage tells whether manifests that have so many references fill a page.
func isPage(manifests, refs int) bool { return manifests >= closurePage || refs >= closureRefs }

// closurePages cuts ms into what one transaction records each.
func closurePages(ms []mirror.Manifest) iter.Seq[[]mirror.Manifest] {
	return func(yield func([]mirror.Manifest) bool) {
		first, refs := 0, 0
		for i, m := range ms {
			refs += len(m.Refs)
			if i+1 < len(ms) && !isPage(i+1-first, refs) {
				continue
			}
			if !yield(ms[first : i+1]) {
				return
			}
			first, refs = i+1, 0
		}
	}
}

// RecordGraph records that repo holds the manifests ms – children before
// parents – with all that they refer to, and that the digests absent are left
// out of repo on purpose. It is durable before it returns, and is to be called
// before a client can see any of them. Recording again changes nothing. A
// manifest that was absent stays so until RecordServed.
func (l *Ledger) RecordGraph(ctx context.Context, repo string, ms []mirror.Manifest, absent []digest.Digest) error {
	if err := checkRepo(repo); err != nil {
		return fmt.Errorf("record graph: %w", err)
	}
	err := inPages(ctx, l, absent, func(tx *bolt.Tx, page []digest.Digest) error { return markAbsent(tx, repo, page) })
	for page := range closurePages(ms) {
		if err != nil {
			break
		}
		err = l.update(ctx, func(tx *bolt.Tx) error { return recordManifests(tx, repo, page) })
	}
	if err != nil {
		return fmt.Errorf("record graph of %s: %w", repo, err)
	}
	return nil
}

func markAbsent(tx *bolt.Tx, repo string, ds []digest.Digest) error {
	b := tx.Bucket([]byte(bucketAbsent))
	for _, d := range ds {
		k, err := repoDigestKey(repo, d)
		if err != nil {
			return err
		}
		if err := file.Put(b, k, nil); err != nil {
			return err
		}
	}
	return nil
}

func recordManifests(tx *bolt.Tx, repo string, ms []mirror.Manifest) error {
	gs, err := writtenGraphs(tx)
	if err != nil {
		return err
	}
	for _, m := range ms {
		for _, g := range gs {
			if err := g.add(repo, m); err != nil {
				return fmt.Errorf("manifest %s: %w", m.Descriptor.Digest, err)
			}
		}
	}
	return nil
}

// add records one manifest in one generation.
func (g graph) add(repo string, m mirror.Manifest) error {
	self, err := digestKey(m.Descriptor.Digest)
	if err != nil {
		return err
	}
	node, edges := describe(m)
	if err := putJSON(g.node, self, node); err != nil {
		return err
	}
	if err := putJSON(g.child, self, edges); err != nil {
		return err
	}
	for _, e := range edges {
		if err := putPair(g.parent, e.Digest, m.Descriptor.Digest); err != nil {
			return err
		}
	}
	if node.Subject != "" {
		if err := putPair(g.subject, node.Subject, m.Descriptor.Digest); err != nil {
			return err
		}
	}
	return g.hold(repo, self)
}

func putPair(b *bolt.Bucket, from, to digest.Digest) error {
	k, err := digestsKey(from, to)
	if err != nil {
		return err
	}
	return file.Put(b, k, nil)
}

func putJSON(b *bolt.Bucket, k []byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return file.Put(b, k, text)
}

// describe is what is kept of a manifest. Data that descriptors embed is
// content, and stays in the manifest.
func describe(m mirror.Manifest) (Node, []edge) {
	n := Node{
		MediaType:    m.Descriptor.MediaType,
		ArtifactType: m.Descriptor.ArtifactType,
		Size:         m.Descriptor.Size,
		Annotations:  m.Annotations,
	}
	if m.Subject != nil {
		n.Subject = m.Subject.Digest
	}
	edges := make([]edge, 0, len(m.Refs))
	for _, ref := range m.Refs {
		ref.Data = nil
		edges = append(edges, edge(ref))
		if ref.Role == mirror.RoleConfig && n.ArtifactType == "" {
			n.ArtifactType = ref.MediaType
		}
	}
	return n, edges
}

// inGraph runs fn on the generation in use.
func (l *Ledger) inGraph(ctx context.Context, fn func(*bolt.Tx, graph) error) error {
	return l.view(ctx, func(tx *bolt.Tx) error {
		g, err := readGraph(tx)
		if err != nil {
			return err
		}
		return fn(tx, g)
	})
}

// Manifest is what the ledger knows of the manifest d, in whatever repository.
// One that it does not know is fs.ErrNotExist.
func (l *Ledger) Manifest(ctx context.Context, d digest.Digest) (n Node, err error) {
	err = l.known(ctx, d, func(g graph, k []byte) error { return getJSON(g.node, k, &n) })
	return n, err
}

// Children is what the manifest d refers to, in its order: config, layers,
// manifests, and what is absent or foreign. A manifest that the ledger does not
// know is fs.ErrNotExist.
func (l *Ledger) Children(ctx context.Context, d digest.Digest) (refs []mirror.Ref, err error) {
	var edges []edge
	err = l.known(ctx, d, func(g graph, k []byte) error { return getJSON(g.child, k, &edges) })
	for _, e := range edges {
		refs = append(refs, mirror.Ref(e))
	}
	return refs, err
}

func (l *Ledger) known(ctx context.Context, d digest.Digest, fn func(g graph, k []byte) error) error {
	k, err := digestKey(d)
	if err == nil {
		err = l.inGraph(ctx, func(_ *bolt.Tx, g graph) error { return fn(g, k) })
	}
	if err != nil {
		return fmt.Errorf("manifest %s in the ledger: %w", d, err)
	}
	return nil
}

func getJSON(b *bolt.Bucket, k []byte, v any) error {
	text := b.Get(k)
	if text == nil {
		return fs.ErrNotExist
	}
	return json.Unmarshal(text, v)
}

// Parents are the manifests that refer to d, in whatever repository. A subject
// is not a child: see Referrers.
func (l *Ledger) Parents(ctx context.Context, d digest.Digest) (parents []digest.Digest, err error) {
	err = l.pairs(ctx, d, func(g graph) *bolt.Bucket { return g.parent }, func(_ graph, parent digest.Digest) error {
		parents = append(parents, parent)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("parents of %s in the ledger: %w", d, err)
	}
	return parents, nil
}

// Referrers are the manifests that repo holds and that name subject, as the
// referrers API lists them: with artifact type (a manifest without one is of
// its config's type) and annotations, ordered by digest. None is no error.
func (l *Ledger) Referrers(ctx context.Context, repo string, subject digest.Digest) (list []ocispec.Descriptor, err error) {
	err = l.pairs(ctx, subject, func(g graph) *bolt.Bucket { return g.subject }, func(g graph, d digest.Digest) error {
		desc, linked, err := g.referrer(repo, d)
		if linked && err == nil {
			list = append(list, desc)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("referrers of %s@%s in the ledger: %w", repo, subject, err)
	}
	return list, nil
}

func (g graph) referrer(repo string, d digest.Digest) (desc ocispec.Descriptor, linked bool, err error) {
	k, err := repoDigestKey(repo, d)
	if err != nil || g.link.Get(k) == nil {
		return ocispec.Descriptor{}, false, err
	}
	var n Node
	if err := getJSON(g.node, k[len(repo)+1:], &n); err != nil {
		return ocispec.Descriptor{}, false, fmt.Errorf("referrer %s: %w", d, err)
	}
	return ocispec.Descriptor{MediaType: n.MediaType, Digest: d, Size: n.Size, ArtifactType: n.ArtifactType, Annotations: n.Annotations}, true, nil
}

// pairs calls fn for the second digest of every pair whose first is d.
func (l *Ledger) pairs(ctx context.Context, d digest.Digest, of func(graph) *bolt.Bucket, fn func(graph, digest.Digest) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return l.inGraph(ctx, func(_ *bolt.Tx, g graph) error {
		c := of(g).Cursor()
		for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			second, err := lastDigest(k[len(prefix):])
			if err == nil {
				err = fn(g, second)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
