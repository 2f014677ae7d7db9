package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// disk is a filesystem on a loop device, whose backing file is what a power cut
// would leave of it.
type disk struct {
	kind, file, device, mount string
}

// newDisk makes one, or skips the test where there are no loop devices. The
// program that makes the filesystem may be required to be there.
func newDisk(t *testing.T, kind string) *disk {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil && os.Getenv("LASTRO_REQUIRE_PEERS") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("no crash images: ", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("no crash images: loop devices need root")
	}
	dir := storetest.Folder(t)
	d := &disk{kind: kind, file: filepath.Join(dir, "image"), mount: filepath.Join(dir, "mount")}
	size := map[string]int64{"ext4": 64 << 20, "xfs": 320 << 20}[kind]
	if err := errors.Join(os.WriteFile(d.file, nil, 0o600), os.Truncate(d.file, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, mkfs, "-q", d.file); err != nil {
		t.Fatal(err)
	}
	if err := d.attach(t); err != nil {
		t.Skip("no crash images: ", err)
	}
	t.Cleanup(func() {
		if err := d.detach(t); err != nil {
			t.Error(err)
		}
	})
	return d
}

func run(t *testing.T, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (d *disk) attach(t *testing.T) (err error) {
	if err := os.MkdirAll(d.mount, 0o700); err != nil {
		return err
	}
	if d.device, err = run(t, "losetup", "--find", "--show", d.file); err != nil {
		return err
	}
	options := ""
	if d.kind == "xfs" {
		options = "nouuid"
	}
	if err := syscall.Mount(d.device, d.mount, d.kind, 0, options); err != nil {
		_, lerr := run(t, "losetup", "--detach", d.device)
		return errors.Join(fmt.Errorf("mount %s: %w", d.kind, err), lerr)
	}
	return nil
}

func (d *disk) detach(t *testing.T) error {
	err := syscall.Unmount(d.mount, 0)
	_, lerr := run(t, "losetup", "--detach", d.device)
	return errors.Join(err, lerr)
}

// writes is a count that changes with every write to the device.
func (d *disk) writes() (string, error) {
	stat, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.device), "stat"))
	return string(stat), err
}

// cut copies what is on the device, as a power cut now would leave it: a copy
// during which the kernel wrote something is made again.
func (d *disk) cut(t *testing.T, to string) error {
	for range 20 {
		before, err := d.writes()
		if err != nil {
			return err
		}
		if _, err := run(t, "cp", "--sparse=always", d.file, to); err != nil {
			return err
		}
		after, err := d.writes()
		if err != nil || before == after {
			return err
		}
	}
	return errors.New("the kernel never stops writing to the device")
}

// commitJournal makes the filesystem write its metadata, and not our data: what
// another program's fsync does at any time.
func (d *disk) commitJournal() error {
	f, err := os.Create(filepath.Join(d.mount, "other"))
	if err != nil {
		return err
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Sync(), f.Close())
}

// image of a disk, and the tags that had been published when it was made.
type cutImage struct {
	file  string
	acked map[string]digest.Digest
	step  string
}

// TestAPowerCutNeverLeavesAHalfImage publishes images on a real filesystem and
// copies the device at many steps, plainly and after another program's fsync.
// Each copy is mounted, so that the journal is replayed, and looked through.
func TestAPowerCutNeverLeavesAHalfImage(t *testing.T) {
	// Not beside other tests: a program that it starts may hold their files open.
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			d := newDisk(t, kind)
			cuts := publishAndCut(t, d)
			for _, c := range cuts {
				found := &disk{kind: kind, file: c.file, mount: filepath.Join(filepath.Dir(d.file), "found")}
				if err := found.attach(t); err != nil {
					t.Fatalf("%s: %v", c.step, err)
				}
				look(t, filepath.Join(found.mount, "data"), c)
				if err := errors.Join(found.detach(t), os.Remove(c.file)); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d images of %s", len(cuts), kind)
		})
	}
}

func publishAndCut(t *testing.T, d *disk) (cuts []cutImage) {
	t.Helper()
	every := 17
	if *long {
		every = 1
	}
	acked := map[string]digest.Digest{}
	cut := func(step string) {
		c := cutImage{fmt.Sprintf("%s-%d", d.file, len(cuts)), map[string]digest.Digest{}, step}
		maps.Copy(c.acked, acked)
		if err := d.cut(t, c.file); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, c)
	}
	steps := 0
	s := open(t, filepath.Join(d.mount, "data"), Options{Step: func(op, subject string) {
		if steps++; steps%every != 0 {
			return
		}
		if steps/every%2 == 0 {
			if err := d.commitJournal(); err != nil {
				t.Fatal(err)
			}
		}
		cut(fmt.Sprintf("step %d, before %s %s", steps, op, subject))
	}})
	defer s.Close()
	for i := range 4 {
		at := fmt.Sprintf("a/b%d", i%3)
		m := storetest.New(fmt.Sprint("image", i))
		if i%2 == 1 {
			m = storetest.Sparse(fmt.Sprint("image", i))
		}
		delete(acked, at+":v1") // on its way to another digest
		m.MustPut(t, s, at, "v1")
		acked[at+":v1"] = m.Root.Digest
		cut(fmt.Sprintf("after image %d", i))
		if err := d.commitJournal(); err != nil {
			t.Fatal(err)
		}
		cut(fmt.Sprintf("after image %d and a commit of the journal", i))
	}
	delete(acked, "a/b1:v1") // on its way out
	if err := s.Untag(t.Context(), "a/b1", "v1", ledger.Event{By: "test"}); err != nil {
		t.Fatal(err)
	}
	acked["a/b1:v1"] = ""
	cut("after the removal of a tag")
	return cuts
}

// look opens what a power cut left.
func look(t *testing.T, dir string, c cutImage) {
	t.Helper()
	s, err := Open(dir, Options{Now: storetest.Now})
	if err != nil {
		t.Errorf("%s: %v", c.step, err)
		return
	}
	defer s.Close()
	if err := trustedContent(filepath.Join(dir, "registry", layout.Blobs)); err != nil {
		t.Errorf("%s: %v", c.step, err)
	}
	tags, err := wholeTags(t.Context(), s)
	if err != nil {
		t.Errorf("%s: %v", c.step, err)
	}
	for at, want := range c.acked {
		if tags[at] != want {
			t.Errorf("%s: %s was published at %q and is at %q", c.step, at, want, tags[at])
		}
	}
	if _, err := storetest.New("next").Put(t.Context(), s, "a/b0", "v1"); err != nil {
		t.Errorf("%s: the next publication: %v", c.step, err)
	}
}

// trustedContent fails unless all content hashes to its name: it is renamed to
// that only when it is durable, and not hashed again afterwards.
func trustedContent(blobs string) error {
	names, err := filepath.Glob(filepath.Join(blobs, "*", "*", "*", "data"))
	for _, name := range names {
		content, rerr := os.ReadFile(name)
		if got := digest.FromBytes(content).Encoded(); rerr != nil || got != filepath.Base(filepath.Dir(name)) {
			err = errors.Join(err, fmt.Errorf("%s hashes to %s (%v)", name, got, rerr))
		}
	}
	return err
}
