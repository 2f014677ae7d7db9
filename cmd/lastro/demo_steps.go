package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/mirror/sample"
	"lastro/store/vault"
)

// The image that the demo follows, and where the mirror puts it.
const (
	demoRepo  = "apps/web"
	demoTag   = "latest"
	demoLocal = "sample/"
)

func (d *demonstration) steps() []demoStep {
	return []demoStep{
		{"A sample upstream", d.startUpstream},
		{"A configuration, and the daemon", d.startDaemon},
		{"The first sync", d.firstSync},
		{"A tag moves upstream", d.secondSync},
		{"Pull through the local registry", d.pullAll},
		{"Ask the past", d.askThePast},
		{"Retention", d.retain},
		{"Back up to a folder", d.backUp},
		{"Disaster", d.destroy},
		{"Restore", d.restore},
		{"Pull the same digests again", d.pullAgain},
	}
}

func (d *demonstration) startUpstream(ctx context.Context) error {
	var err error
	if d.upstream, err = sample.Start(sample.Options{}); err != nil {
		return err
	}
	if d.images, err = d.upstream.Fill(ctx); err != nil {
		return err
	}
	repos := d.repositories()
	d.say("   A registry at %s with multi-platform, signed images that share layers.", d.upstream.Addr())
	return d.check(len(repos) > 1, "%d tags in %d repositories, %s", len(d.images), len(repos), humanize.IBytes(uint64(d.upstream.Bytes())))
}

func (d *demonstration) repositories() map[string]bool {
	repos := map[string]bool{}
	for _, e := range d.images {
		repos[e.Repo] = true
	}
	return repos
}

func (d *demonstration) startDaemon(ctx context.Context) error {
	for _, address := range []*string{&d.registry, &d.admin} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*address = l.Addr().String()
		if err := l.Close(); err != nil {
			return err
		}
	}
	text := fmt.Sprintf(demoConfig, d.data(), d.registry, d.admin, d.upstream.Addr(), d.upstream.Addr(), "file://"+d.vault())
	if err := os.WriteFile(d.config(), []byte(text), 0o600); err != nil {
		return err
	}
	d.show(text)
	if err := d.serve(ctx); err != nil {
		return err
	}
	return d.check(d.halt != nil, "the registry is at %s, the admin page at %s", d.registry, d.admin)
}

const demoConfig = `data: %s
registry: {listen: %q}
admin: {listen: %q}
upstreams:
  %q: {plain-http: true, credentials: none}
mirror:
  - {name: sample, from: "%s/**", to: sample, every: 6h}
retention:
  - {match: sample/apps/web, keep: {last: 1, tags: ["1.3", "1.4"]}, max-removals: 50%%}
backup:
  - {name: main, to: %q, every: 1d}
`

func (d *demonstration) firstSync(ctx context.Context) error {
	report, err := d.sync(ctx)
	if err != nil {
		return err
	}
	images := slices.DeleteFunc(slices.Clone(d.images), func(e sample.Expect) bool { return e.Attached })
	return d.check(len(report.Copied) == len(images), "%d images copied with their signatures, %s", len(report.Copied), d.cost(report))
}

// secondSync copies what moved, and then finds nothing to do.
func (d *demonstration) secondSync(ctx context.Context) error {
	d.before = d.now()
	d.old = d.images[slices.IndexFunc(d.images, isDemoImage)]
	moved, err := d.upstream.Move(ctx, demoRepo, demoTag)
	if err != nil {
		return err
	}
	d.images = d.upstream.Expect()
	d.say("   Somebody pushes %s:%s again: it was %s and is %s.", demoRepo, demoTag, short(d.old.Digest), short(moved.Digest))
	report, err := d.sync(ctx)
	if err != nil {
		return err
	}
	only := len(report.Copied) == 1 && report.Copied[0].Digest == moved.Digest && report.Copied[0].Previous == d.old.Digest
	if err := d.check(only, "%d image copied, %d unchanged, %s", len(report.Copied), report.Unchanged, d.cost(report)); err != nil {
		return err
	}
	d.upstream.ForgetRequests()
	if report, err = d.sync(ctx); err != nil {
		return err
	}
	asked := d.upstream.Requests()
	heads, lists := asked.Count(http.MethodHead, sample.KindManifest), asked.Count(http.MethodGet, sample.KindTags)
	fetched := asked.Count(http.MethodGet, sample.KindManifest) + asked.Count(http.MethodGet, sample.KindBlob)
	least := len(report.Copied) == 0 && fetched == 0 && heads == len(d.images) && lists == len(d.repositories())
	return d.check(least, "nothing new: %d HEAD requests (one a tag), %d lists of tags (one a repository), %d fetched", heads, lists, fetched)
}

// synced is the only rule's part of a report, and what the run cost.
type synced struct {
	mirror.RuleReport
	total mirror.Report
}

func (d *demonstration) sync(ctx context.Context) (synced, error) {
	var s synced
	if err := d.ask(ctx, &s.total, "sync"); err != nil {
		return s, err
	}
	if len(s.total.Rules) != 1 {
		return s, fmt.Errorf("sync reports %d rules where the configuration has one", len(s.total.Rules))
	}
	s.RuleReport = s.total.Rules[0]
	return s, nil
}

func (d *demonstration) cost(s synced) string {
	return fmt.Sprintf("%s in %d requests, %.1f s", humanize.IBytes(uint64(s.total.TransferredBytes)), s.total.UpstreamRequests, s.total.TookSeconds)
}

// pullAll reads all images, and by its digest the one that the tag has left.
func (d *demonstration) pullAll(ctx context.Context) error {
	var bytes int64
	signed := 0
	started := d.now()
	for _, e := range append(slices.Clone(d.images), byDigest(d.old)) {
		got, err := sample.Pull(ctx, "http://"+d.registry, demoLocal+e.Repo, e.Tag)
		if err == nil {
			err = e.Check(got)
		}
		if err != nil {
			return err
		}
		bytes += got.Bytes
		signed += got.Referrers
	}
	d.say("   As a client would, for all platforms; every byte is hashed.")
	return d.check(signed > 0, "%d tags have the upstream's digests, with %d signatures and SBOMs: %s in %.1f s",
		len(d.images), signed, humanize.IBytes(uint64(bytes)), d.now().Sub(started).Seconds())
}

func (d *demonstration) askThePast(ctx context.Context) error {
	image := demoLocal + demoRepo + ":" + demoTag
	history, err := d.verb(ctx, "history", image)
	if err != nil {
		return err
	}
	d.show(history)
	now, err := d.verb(ctx, "resolve", image)
	if err != nil {
		return err
	}
	then, err := d.verb(ctx, "resolve", image, "--at", d.before.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return err
	}
	current := d.images[slices.IndexFunc(d.images, isDemoImage)].Digest
	holds := strings.TrimSpace(now) == current.String() && strings.TrimSpace(then) == d.old.Digest.String()
	return d.check(holds, "it is %s now and was %s then", short(current), short(d.old.Digest))
}

func (d *demonstration) retain(ctx context.Context) error {
	why, err := d.verb(ctx, "retain", "--explain", demoLocal+demoRepo+":1.0")
	if err != nil {
		return err
	}
	d.show(why)
	var report retained
	if err := d.ask(ctx, &report, "retain"); err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, decision := range report.Decisions {
		if decision.Remove {
			gone[decision.Repo+":"+decision.Tag] = true
		}
	}
	before := len(d.images)
	var attached int
	d.images = slices.DeleteFunc(d.images, func(e sample.Expect) bool {
		removed := gone[demoLocal+e.Repo+":"+e.Tag]
		if removed && e.Attached {
			attached++
		}
		return removed
	})
	removed := before - len(d.images)
	return d.check(removed == report.Removed && removed-attached == 3, "%d old tags are gone, and %d tags of their signatures with them; %d are kept", removed-attached, attached, len(d.images))
}

func (d *demonstration) backUp(ctx context.Context) error {
	var report vault.Report
	if err := d.ask(ctx, &report, "backup"); err != nil {
		return err
	}
	if err := d.check(report.Images > 0 && len(report.Failed) == 0, "snapshot %s: %d images in %d blobs, %s, %.1f s", report.Snapshot, report.Images, report.Blobs, humanize.IBytes(uint64(report.Bytes)), report.TookSeconds); err != nil {
		return err
	}
	var again vault.Report
	if err := d.ask(ctx, &again, "backup"); err != nil {
		return err
	}
	if err := d.check(again.NewBytes < report.NewBytes, "once more, with nothing new: %d blobs sent, %s", again.NewBlobs, humanize.IBytes(uint64(again.NewBytes))); err != nil {
		return err
	}
	var verified vault.Verified
	if err := d.ask(ctx, &verified, "backup", "verify"); err != nil {
		return err
	}
	return d.check(verified.Blobs >= report.Blobs && len(verified.Problems) == 0, "all %d blobs in the vault were read and hashed, %s", verified.Blobs, humanize.IBytes(uint64(verified.Bytes)))
}

func (d *demonstration) destroy(context.Context) error {
	d.say("   The daemon stops, and its data folder is lost: registry, ledger, everything.")
	if err := d.halt(); err != nil {
		return err
	}
	if err := os.RemoveAll(d.data()); err != nil {
		return err
	}
	_, err := os.Stat(d.data())
	if err := d.check(errors.Is(err, fs.ErrNotExist), "the data folder does not exist"); err != nil {
		return err
	}
	if err := d.upstream.Close(); err != nil {
		return err
	}
	_, err = net.Dial("tcp", d.upstream.Addr())
	return d.check(err != nil, "the upstream is gone too, so that nothing can come from there")
}

func (d *demonstration) restore(ctx context.Context) error {
	var report vault.Restored
	if err := d.ask(ctx, &report, "restore"); err != nil {
		return err
	}
	if err := d.check(len(report.Failed) == 0 && report.Images > 0, "%d blobs, every byte hashed: %s in %.1f s", report.Blobs, humanize.IBytes(uint64(report.Bytes)), report.TookSeconds); err != nil {
		return err
	}
	return d.serve(ctx)
}

// pullAgain pulls what was there before the disaster, and asks the ledger what
// it knew then.
func (d *demonstration) pullAgain(ctx context.Context) error {
	if err := d.pullAll(ctx); err != nil {
		return err
	}
	var l listing
	if err := d.ask(ctx, &l, "list"); err != nil {
		return err
	}
	var there, expected []string
	for _, r := range l.Repositories {
		for _, tag := range r.Tags {
			there = append(there, r.Name+":"+tag.Name+" "+tag.Digest.String())
		}
	}
	for _, e := range d.images {
		expected = append(expected, demoLocal+e.Repo+":"+e.Tag+" "+e.Digest.String())
	}
	slices.Sort(there)
	slices.Sort(expected)
	if err := d.check(slices.Equal(there, expected), "the same %d tags, and no other", len(there)); err != nil {
		return err
	}
	then, err := d.verb(ctx, "resolve", demoLocal+demoRepo+":"+demoTag, "--at", d.before.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return err
	}
	return d.check(strings.TrimSpace(then) == d.old.Digest.String(), "the history is back: before the move it was %s", short(d.old.Digest))
}

func isDemoImage(e sample.Expect) bool { return e.Repo == demoRepo && e.Tag == demoTag }

// show prints text as what a command printed.
func (d *demonstration) show(text string) {
	for line := range strings.Lines(text) {
		d.say("     %s", strings.TrimRight(line, "\n"))
	}
}

// short is a digest as people say it.
func short(dg digest.Digest) string { return dg.Algorithm().String() + ":" + dg.Encoded()[:12] }

// byDigest is an image that is pulled by its digest.
func byDigest(e sample.Expect) sample.Expect {
	e.Tag = e.Digest.String()
	return e
}
