package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lastro/mirror"
	"lastro/store/ledger"
)

func (c *cli) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show REF",
		Short:   "one image with its closure, referrers and protections",
		Example: "  lastro show debian:12\n  lastro show docker.io/library/debian@sha256:…",
		Args:    takes(cobra.ExactArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			img, err := s.show(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(img)
		}),
	}
}

type shownImage struct {
	Repo        string            `json:"repo"`
	Tag         string            `json:"tag,omitempty"`
	Digest      digest.Digest     `json:"digest"`
	MediaType   string            `json:"media_type"`
	Since       *time.Time        `json:"since,omitempty"`
	LastPulled  *time.Time        `json:"last_pulled"` // null: never, as far as is known
	Bytes       int64             `json:"bytes"`       // of the closure
	Closure     []shownContent    `json:"closure"`
	Absent      []absentChild     `json:"expected_absent"`
	Referrers   []shownContent    `json:"referrers"`
	Protections []shownProtection `json:"protections"`
	Held        *ledger.TagHold   `json:"held,omitempty"` // against sync, after a rollback
}

type shownContent struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	Size      int64         `json:"size"`
	Kind      string        `json:"kind"`
	Platform  string        `json:"platform,omitempty"`
}

// absentChild is a manifest that the index names and a platform filter left out.
type absentChild struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform,omitempty"`
}

func (s *site) show(ctx context.Context, text string) (shownImage, error) {
	ref, err := s.localReference(ctx, text)
	if err != nil {
		return shownImage{}, err
	}
	img := shownImage{Repo: ref.repo, Tag: ref.tag, Digest: ref.digest}
	if ref.digest == "" {
		state, err := s.ledger().Tag(ctx, ref.repo, ref.tag)
		if err != nil {
			return img, s.explainMissing(ctx, ref, time.Time{}, err)
		}
		img.Digest, img.Since = state.Digest, &state.Since
	}
	if err := s.showClosure(ctx, &img); err != nil {
		return img, s.explainMissing(ctx, ref, time.Time{}, err)
	}
	if img.LastPulled, err = s.lastPulled(ctx, img.Repo, img.Tag, img.Digest); err != nil {
		return img, err
	}
	protections, err := s.ledger().ProtectionsOf(ctx, img.Repo, img.Digest)
	img.Protections = s.shownProtections(protections)
	if err != nil || img.Tag == "" {
		return img, err
	}
	hold, held, err := s.ledger().TagHold(ctx, img.Repo, img.Tag)
	if held {
		img.Held = &hold
	}
	return img, err
}

func (s *site) showClosure(ctx context.Context, img *shownImage) error {
	desc, raw, err := s.store.Manifest(ctx, img.Repo, img.Digest)
	if err != nil {
		return err
	}
	img.MediaType = desc.MediaType
	closure, err := s.store.Closure(ctx, img.Repo, img.Digest)
	if err != nil {
		return err
	}
	names, err := s.platformNames(desc, raw)
	if err != nil {
		return err
	}
	img.Closure, img.Absent, img.Referrers = []shownContent{}, []absentChild{}, []shownContent{}
	for _, content := range closure {
		kind := "blob"
		if content.Manifest {
			kind = "manifest"
		}
		img.Bytes += content.Size
		img.Closure = append(img.Closure, shownContent{content.Digest, content.MediaType, content.Size, kind, names[content.Digest]})
	}
	if err := s.showReferrers(ctx, img); err != nil {
		return err
	}
	return s.showAbsent(ctx, img, names)
}

func (s *site) showReferrers(ctx context.Context, img *shownImage) error {
	referrers, err := s.ledger().Referrers(ctx, img.Repo, img.Digest)
	for _, r := range referrers {
		img.Referrers = append(img.Referrers, shownContent{r.Digest, r.MediaType, r.Size, r.ArtifactType, ""})
	}
	return err
}

func (s *site) showAbsent(ctx context.Context, img *shownImage, names map[digest.Digest]string) error {
	children, err := s.ledger().Children(ctx, img.Digest)
	if err != nil {
		return err
	}
	for _, child := range children {
		absent, err := s.store.Absent(ctx, img.Repo, child.Digest)
		if err != nil {
			return err
		}
		if absent {
			img.Absent = append(img.Absent, absentChild{child.Digest, names[child.Digest]})
		}
	}
	return nil
}

// platformNames says which platform each child of an index is for.
func (s *site) platformNames(desc ocispec.Descriptor, raw []byte) (map[digest.Digest]string, error) {
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return nil, err
	}
	names := map[digest.Digest]string{}
	for child := range m.Children() {
		if p := child.Platform; p != nil {
			names[child.Digest] = platformName(*p)
		}
	}
	return names, nil
}

func platformName(p ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

func (img shownImage) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "image\t%s\n", localRef{img.Repo, img.Tag, img.Digest})
	fmt.Fprintf(t, "digest\t%s\n", img.Digest)
	fmt.Fprintf(t, "media type\t%s\n", img.MediaType)
	if img.Since != nil {
		fmt.Fprintf(t, "since\t%s\n", stamp(*img.Since))
	}
	fmt.Fprintf(t, "last pulled\t%s\n", pulledStamp(img.LastPulled))
	if img.Held != nil {
		fmt.Fprintf(t, "held\t%s\n", img.Held)
	}
	for _, p := range img.Protections {
		fmt.Fprintf(t, "protection\t%s\n", p.words())
	}
	fmt.Fprintf(t, "closure\t%d digests, %s\n", len(img.Closure), humanize.IBytes(uint64(img.Bytes)))
	for _, content := range img.Closure {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", content.Kind, content.Digest, humanize.IBytes(uint64(content.Size)), content.MediaType, content.Platform)
	}
	for _, child := range img.Absent {
		fmt.Fprintf(t, "  expected absent\t%s\t\t\t%s\n", child.Digest, child.Platform)
	}
	for _, r := range img.Referrers {
		fmt.Fprintf(t, "referrer\t%s\t%s\t%s\n", r.Digest, humanize.IBytes(uint64(r.Size)), r.Kind)
	}
	return t.Flush()
}
