package check

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"

	"lastro/store/layout"
	"lastro/store/storetest"

	"github.com/opencontainers/go-digest"
)

func TestAStoreThatIsRightHasNoProblems(t *testing.T) {
	s := newSite(t)
	r := s.check(t, Options{Part: 1, Parts: 1})
	if len(r.Problems) > 0 || r.Repositories != 3 || r.Blobs != len(s.all) || r.ReadBlobs != r.Blobs || r.ReadBytes != r.Bytes {
		t.Errorf("%s%+v", words(r), r)
	}
}

func TestEveryPartIsReadOnce(t *testing.T) {
	s := newSite(t)
	whole := s.check(t, Options{Part: 1, Parts: 1})
	read, bytes := 0, int64(0)
	for part := range 5 {
		r := s.check(t, Options{Part: part + 1, Parts: 5})
		read, bytes = read+r.ReadBlobs, bytes+r.ReadBytes
	}
	if read != whole.Blobs || bytes != whole.Bytes {
		t.Errorf("read %d of %d contents, %d of %d bytes", read, whole.Blobs, bytes, whole.Bytes)
	}
}

func TestEachCorruptionIsFoundAndHealed(t *testing.T) {
	for _, c := range []struct {
		name    string
		corrupt func(t *testing.T, s *site) digest.Digest
		kind    Kind
		images  []string
		stays   bool // no source can heal it
	}{
		{name: "a bit flip in a blob", kind: Corrupt, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := layer(s.tools, 0, 2)
			raw := slices.Clone(s.all[d])
			raw[3] ^= 1
			write(t, s.path(layout.Data(d)), raw)
			return d
		}},
		{name: "a zero page in a blob", kind: Corrupt, images: []string{"apps/web:1", "apps/web:latest", "copy:1"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := layer(s.web, 0, 2)
			write(t, s.path(layout.Data(d)), make([]byte, len(s.all[d])))
			return d
		}},
		{name: "a truncated blob", kind: Truncated, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := layer(s.tools, 1, 2)
			write(t, s.path(layout.Data(d)), s.all[d][:4])
			return d
		}},
		{name: "a blob that is empty", kind: Truncated, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := layer(s.tools, 1, 2)
			write(t, s.path(layout.Data(d)), nil)
			return d
		}},
		{name: "a blob with the bytes of another", kind: Corrupt, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := layer(s.tools, 0, 2)
			write(t, s.path(layout.Data(d)), s.all[layer(s.tools, 1, 2)])
			return d
		}},
		{name: "a blob that is gone", kind: Missing, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Data(layer(s.tools, 0, 2)), layer(s.tools, 0, 2))
		}},
		{name: "a manifest that was replaced by another", kind: Corrupt, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := hex(s.tools, 0)
			write(t, s.path(layout.Data(d)), append(slices.Clone(s.all[hex(s.tools, 1)]), ' '))
			return d
		}},
		{name: "an index that is gone", kind: Missing, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Data(s.tools.Root.Digest), s.tools.Root.Digest)
		}},
		{name: "a referrer's blob that is gone", kind: Missing, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Data(layer(s.tools, 3, 2)), layer(s.tools, 3, 2))
		}},
		{name: "a blob's link that is lost", kind: Unlinked, images: []string{"copy:1"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Layer("copy", layer(s.web, 0, 2)), layer(s.web, 0, 2))
		}},
		{name: "a blob's link that is empty", kind: Unlinked, images: []string{"copy:1"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Layer("copy", layer(s.web, 0, 2))), nil)
			return layer(s.web, 0, 2)
		}},
		{name: "a blob's link that says another", kind: Malformed, images: []string{"copy:1"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Layer("copy", layer(s.web, 0, 2))), []byte(layer(s.web, 0, 1)))
			return layer(s.web, 0, 2)
		}},
		{name: "a child's link that is lost", kind: Unlinked, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Revision("tools", hex(s.tools, 1)), hex(s.tools, 1))
		}},
		{name: "an index's link that is lost", kind: Unlinked, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Revision("tools", s.tools.Root.Digest), s.tools.Root.Digest)
		}},
		{name: "a manifest's link that holds no digest", kind: Malformed, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Revision("tools", hex(s.tools, 1))), []byte("sha256:zz"))
			return hex(s.tools, 1)
		}},
		{name: "a tag's link that is lost", kind: Vanished, images: []string{"apps/web:latest"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			return s.remove(t, layout.Tag("apps/web", "latest"), s.web.Root.Digest)
		}},
		{name: "a tag's link that is empty", kind: Vanished, images: []string{"apps/web:latest"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Tag("apps/web", "latest")), nil)
			return s.web.Root.Digest
		}},
		{name: "a tag's link that says what is not served", kind: Malformed, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Tag("tools", "2")), []byte(digest.FromString("nothing")))
			return s.tools.Root.Digest
		}},
		{name: "a tag that the ledger does not know", kind: Unrecorded, images: []string{"tools:3"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Tag("tools", "3")), []byte(s.tools.Root.Digest))
			return s.tools.Root.Digest
		}},
		{name: "a manifest that the ledger does not have in the repository", kind: Unrecorded, images: []string{"tools:2"}, corrupt: func(t *testing.T, s *site) digest.Digest {
			if err := s.Ledger().RecordUnlinked(t.Context(), "tools", hex(s.tools, 0)); err != nil {
				t.Fatal(err)
			}
			return hex(s.tools, 0)
		}},
		{name: "a link that leads nowhere", kind: Dangling, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := digest.FromString("nothing")
			write(t, s.path(layout.Layer("tools", d)), []byte(d))
			return d
		}},
		{name: "a file among the tags", kind: Foreign, stays: true, corrupt: func(t *testing.T, s *site) digest.Digest {
			write(t, s.path(layout.Tags("tools")+"/readme"), []byte("hello"))
			return ""
		}},
		{name: "content that nothing refers to", kind: Orphaned, stays: true, corrupt: func(t *testing.T, s *site) digest.Digest {
			d := digest.FromString("orphan")
			write(t, s.path(layout.Data(d)), []byte("orphan"))
			past := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(s.path(layout.Data(d)), past, past); err != nil {
				t.Fatal(err)
			}
			return d
		}},
		{name: "an upload that was abandoned", kind: Abandoned, stays: true, corrupt: func(t *testing.T, s *site) digest.Digest {
			dir := s.path(layout.Repositories + "/tools/_uploads/x")
			write(t, dir+"/data", []byte("half"))
			past := time.Now().Add(-30 * 24 * time.Hour)
			if err := errors.Join(os.Chtimes(dir+"/data", past, past), os.Chtimes(dir, past, past)); err != nil {
				t.Fatal(err)
			}
			return ""
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			d := c.corrupt(t, s)
			r := s.check(t, Options{Part: 1, Parts: 1})
			i := slices.IndexFunc(r.Problems, func(p Problem) bool { return p.Kind == c.kind && p.Digest == d })
			if i < 0 {
				t.Fatalf("%s of %q is not found:\n%s", c.kind, d, words(r))
			}
			if got := r.Problems[i].Images; c.images != nil && !slices.Equal(got, c.images) {
				t.Errorf("hurts %v, want %v", got, c.images)
			}
			healed := s.check(t, Options{Part: 1, Parts: 1, Repair: true, Sources: []Source{s.all}})
			if c.stays != (healed.Left() > 0) {
				t.Errorf("after the repair:\n%s", words(healed))
			}
			if !c.stays {
				s.clean(t)
			}
		})
	}
}

// The first tag cannot be put back before the second one has its image served again.
func TestATagComesBackWhenAnotherOneMendsItsImage(t *testing.T) {
	s := newSite(t)
	s.remove(t, layout.Revision("apps/web", s.web.Root.Digest), "")
	write(t, s.path(layout.Tag("apps/web", "1")), []byte("no digest"))
	if healed := s.check(t, Options{Repair: true}); healed.Left() > 0 {
		t.Error(words(healed))
	}
	s.clean(t)
}

func TestATagThatIsAtALayerComesBackWithItsImage(t *testing.T) {
	for name, at := range map[string]func(m *storetest.Image) digest.Digest{
		"at a layer":  func(m *storetest.Image) digest.Digest { return layer(m, 0, 2) },
		"at a config": func(m *storetest.Image) digest.Digest { return layer(m, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			write(t, s.path(layout.Tag("apps/web", "latest")), []byte(at(s.web)))
			write(t, s.path(layout.Revision("apps/web", s.web.Root.Digest)), []byte("no digest"))
			r := s.check(t, Options{Repair: true})
			if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Tag == "latest" && p.Kind == Malformed }) || r.Left() > 0 {
				t.Error(words(r))
			}
			if d, err := s.Resolve(t.Context(), "apps/web", "latest"); err != nil || d != s.web.Root.Digest {
				t.Errorf("it is at %s, %v", d, err)
			}
			s.clean(t)
		})
	}
}

func TestAManifestsLinkAndItsBlobsAreBothFoundLost(t *testing.T) {
	s := newSite(t)
	s.remove(t, layout.Revision("tools", hex(s.tools, 3)), "")
	s.remove(t, layout.Layer("tools", layer(s.tools, 3, 2)), "")
	r := s.check(t, Options{})
	for _, want := range []digest.Digest{hex(s.tools, 3), layer(s.tools, 3, 2)} {
		if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Digest == want && p.Repo == "tools" }) {
			t.Errorf("nothing is wrong with %s:\n%s", want, words(r))
		}
	}
	if healed := s.check(t, Options{Repair: true}); healed.Left() > 0 {
		t.Error(words(healed))
	}
	s.clean(t)
}

func (s *site) remove(t *testing.T, name string, d digest.Digest) digest.Digest {
	t.Helper()
	if err := os.Remove(s.path(name)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWithoutASourceBadBytesAreOutOfServiceAndComeWithAPush(t *testing.T) {
	s := newSite(t)
	d := layer(s.tools, 0, 2)
	write(t, s.path(layout.Data(d)), s.all[d][:4])
	r := s.check(t, Options{Repair: true})
	if r.Left() != 1 || r.Problems[0].Kind != Truncated {
		t.Fatal(words(r))
	}
	if _, err := s.OpenBlob("tools", d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is served: %v", err)
	}
	if raw, err := os.ReadFile(s.path("quarantine/sha256/" + d.Encoded())); err != nil || string(raw) != string(s.all[d][:4]) {
		t.Errorf("quarantine holds %q, %v", raw, err)
	}
	s.tools.MustPut(t, s.Store, "tools", "2")
	s.clean(t)
}

func TestContentThatIsYoungIsInFlight(t *testing.T) {
	s := newSite(t)
	write(t, s.path(layout.Data(digest.FromString("young"))), []byte("young"))
	s.clean(t)
}

func TestACheckOfSomeRepositoriesSaysNothingOfOthers(t *testing.T) {
	s := newSite(t)
	s.remove(t, layout.Data(layer(s.tools, 0, 2)), "")
	if r := s.check(t, Options{Match: func(repo string) bool { return repo == "copy" }, Part: 1, Parts: 1}); len(r.Problems) > 0 || r.Repositories != 1 {
		t.Error(words(r))
	}
}

func TestACheckThatIsCancelledSaysSo(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, s.Store, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
