package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/layout"
)

// Listing is what a vault is and holds.
type Listing struct {
	Vault     string      `json:"vault"`
	To        string      `json:"to"`
	Encrypted bool        `json:"encrypted"`
	Mode      layout.Mode `json:"mode"`                  // how many processes may change it at a time
	Locked    time.Time   `json:"locked_until,omitzero"` // all that the snapshots need is locked at least until then; zero: not known
	Snapshots []Listed    `json:"snapshots"`             // oldest first
}

// Listed is one snapshot in a listing.
type Listed struct {
	ID       string     `json:"id"`
	Time     time.Time  `json:"time"`
	Images   int        `json:"images"`
	Blobs    int        `json:"blobs"`
	Bytes    int64      `json:"bytes"`
	Verified *time.Time `json:"verified"` // when it was last read whole and found right; null: never
	Signed   bool       `json:"signed"`
	Store    string     `json:"store,omitempty"` // what the store is called that it is of
}

// List tells which snapshots there are. A vault that no backup has made yet is
// ErrNoVault.
func (v *Vault) List(ctx context.Context) (Listing, error) {
	c, err := v.Config(ctx)
	if err != nil {
		return Listing{}, fmt.Errorf("list vault %s: %w", v.Name, err)
	}
	h, _, err := v.Head(ctx, c)
	if err != nil {
		return Listing{}, fmt.Errorf("list vault %s: %w", v.Name, err)
	}
	list := Listing{Vault: v.Name, To: v.Bucket.String(), Encrypted: c.Encrypted != nil, Mode: c.Mode(), Locked: h.Locked, Snapshots: []Listed{}}
	for _, e := range h.Snapshots {
		l := Listed{ID: e.ID, Time: e.Created, Images: e.Images, Blobs: e.Blobs, Bytes: e.Bytes, Signed: e.Signed != "", Store: e.Store}
		if !e.Verified.IsZero() {
			l.Verified = &e.Verified
		}
		list.Snapshots = append(list.Snapshots, l)
	}
	return list, nil
}

// Contents is a snapshot with what is in it.
type Contents struct {
	layout.Snapshot
	Repositories []Repository `json:"repositories"`
}

// Repository is what a snapshot has of one repository.
type Repository struct {
	Name   string             `json:"name"`
	Index  ocispec.Descriptor `json:"index"` // the OCI index of it in the vault
	Images []Image            `json:"images"`
}

// Image is a tag, or a digest without one.
type Image struct {
	Tag          string        `json:"tag,omitempty"`
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"media_type"`
	ArtifactType string        `json:"artifact_type,omitempty"`
	Size         int64         `json:"size"` // of the manifest
}

// Show tells what is in a snapshot: "" or "latest", an id, or the start of one.
func (v *Vault) Show(ctx context.Context, snapshot string) (Contents, error) {
	c, err := v.show(ctx, snapshot)
	if err != nil {
		return Contents{}, fmt.Errorf("show vault %s: %w", v.Name, err)
	}
	return c, nil
}

func (v *Vault) show(ctx context.Context, snapshot string) (Contents, error) {
	s, err := v.Find(ctx, snapshot, time.Time{})
	if err != nil {
		return Contents{}, err
	}
	c := Contents{Snapshot: s, Repositories: []Repository{}}
	root, err := v.Index(ctx, s.Root)
	if err != nil {
		return Contents{}, err
	}
	for _, desc := range root.Manifests {
		idx, err := v.Index(ctx, desc)
		if err != nil {
			return Contents{}, err
		}
		r := Repository{Name: desc.Annotations[layout.AnnotationRepository], Index: desc, Images: []Image{}}
		r.Index.Annotations = nil
		for _, m := range idx.Manifests {
			r.Images = append(r.Images, Image{layout.TagOf(m), m.Digest, m.MediaType, m.ArtifactType, m.Size})
		}
		c.Repositories = append(c.Repositories, r)
	}
	return c, nil
}

// Flat is the index.json of an OCI image layout that has the images of a snapshot,
// each under its full name: a copy of the vault with it is readable at that snapshot
// by any program that knows such layouts. snapshot is as for Show.
func (v *Vault) Flat(ctx context.Context, snapshot string) ([]byte, error) {
	repos, err := v.repositories(ctx, snapshot)
	if err != nil {
		return nil, fmt.Errorf("show vault %s: %w", v.Name, err)
	}
	doc, err := layout.Flat(repos)
	return doc.Data, err
}

// Configuration is the configuration that a snapshot was made with, secrets as ***; ""
// is none. snapshot is as for Show.
func (v *Vault) Configuration(ctx context.Context, snapshot string) (string, error) {
	s, err := v.Find(ctx, snapshot, time.Time{})
	if err != nil {
		return "", fmt.Errorf("show vault %s: %w", v.Name, err)
	}
	return v.Catalog.Configuration(ctx, s)
}

// repositories is what the indexes of a snapshot list.
func (v *Vault) repositories(ctx context.Context, snapshot string) ([]layout.Repository, error) {
	s, err := v.Find(ctx, snapshot, time.Time{})
	if err != nil {
		return nil, err
	}
	root, err := v.Index(ctx, s.Root)
	if err != nil {
		return nil, err
	}
	repos := make([]layout.Repository, len(root.Manifests))
	for i, desc := range root.Manifests {
		idx, err := v.Index(ctx, desc)
		if err != nil {
			return nil, err
		}
		repos[i] = layout.Repository{Name: desc.Annotations[layout.AnnotationRepository], Images: idx.Manifests}
	}
	return repos, nil
}
