package layout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"lastro/store/storetest"
)

// noFetch fails the test when content is fetched that is held.
func noFetch(t *testing.T) func(context.Context, int64) (io.ReadCloser, int64, error) {
	return func(context.Context, int64) (io.ReadCloser, int64, error) {
		t.Error("fetched")
		return nil, 0, errors.New("fetched")
	}
}

func TestSmallContentIsHeldAndGetsItsNameAtTheBarrier(t *testing.T) {
	r := &recorder{}
	dir := storetest.Folder(t)
	tree := open(t, dir, Options{Step: r.step})
	data, desc := content(small)
	if err := tree.Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Stat(Data(desc.Digest)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has its name before it is durable: %v", err)
	}
	if has, err := tree.Has(desc); !has || err != nil || !bytes.Equal(stored(t, tree, desc.Digest), data) {
		t.Errorf("it is not held: %v, %v", has, err)
	}
	if err := errors.Join(tree.Ingest(t.Context(), desc, noFetch(t)), tree.Settle(desc.Digest), tree.Ingest(t.Context(), desc, noFetch(t))); err != nil {
		t.Fatal(err)
	}
	want := []string{"open partial/" + partial(desc.Digest), "write " + desc.Digest.String(), "syncfs ", "rename " + Data(desc.Digest)}
	if !slices.Equal(r.steps, want) {
		t.Errorf("got  %q\nwant %q", r.steps, want)
	}
	if left := partials(t, dir); len(left) > 0 || !bytes.Equal(stored(t, tree, desc.Digest), data) {
		t.Errorf("left %v", left)
	}
}

func TestSmallContentThatWaitedWhenTheProcessEndedIsHashedAndNotFetched(t *testing.T) {
	dir := storetest.Folder(t)
	data, desc := content(1000)
	if err := open(t, dir, Options{}).Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, Options{})
	if has, err := next.Has(desc); has || err != nil {
		t.Errorf("another process holds it: %v, %v", has, err)
	}
	if err := errors.Join(next.Ingest(t.Context(), desc, noFetch(t)), next.Settle(desc.Digest)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored(t, next, desc.Digest), data) {
		t.Error("other bytes are stored")
	}
}

func TestSmallContentThatTheDiskLostIsNotHeld(t *testing.T) {
	f := &failing{"syncfs", syscall.EIO, 1}
	dir := storetest.Folder(t)
	tree := open(t, dir, Options{Fault: f.fault})
	data, desc := content(1000)
	if err := tree.Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
		t.Fatal(err)
	}
	if err := tree.Settle(desc.Digest); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	// The page cache would vouch for what the disk did not take.
	if has, err := tree.Has(desc); has || err != nil || len(partials(t, dir)) > 0 {
		t.Errorf("held %v, left %v, %v", has, partials(t, dir), err)
	}
}

func TestContentThatCannotGetItsNameIsTheErrorOfWhoNeedsIt(t *testing.T) {
	f := &failing{"rename", syscall.ENOSPC, 1}
	tree := open(t, storetest.Folder(t), Options{Fault: f.fault})
	data, desc := content(1000)
	if err := tree.Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
		t.Fatal(err)
	}
	if err := tree.Settle(describe(nil).Digest); err != nil {
		t.Errorf("another's error: %v", err)
	}
	f.count = 1
	if err := tree.Settle(desc.Digest); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if has, err := tree.Has(desc); !has || err != nil {
		t.Errorf("it is not held: %v, %v", has, err)
	}
	if err := tree.Settle(desc.Digest); err != nil {
		t.Errorf("the next barrier: %v", err)
	}
	if _, err := tree.Stat(Data(desc.Digest)); err != nil {
		t.Error(err)
	}
}

func TestAnotherSizeThanThatOfContentThatWaitsIsRefused(t *testing.T) {
	tree := open(t, storetest.Folder(t), Options{})
	data, desc := content(1000)
	if err := tree.Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
		t.Fatal(err)
	}
	wrong := desc
	wrong.Size++
	if has, err := tree.Has(wrong); has || err != nil {
		t.Errorf("has it: %v, %v", has, err)
	}
	if err := tree.Ingest(t.Context(), wrong, noFetch(t)); !errors.Is(err, ErrSize) || !strings.Contains(err.Error(), "it has 1000 bytes, want 1001") {
		t.Errorf("got %v", err)
	}
	if err := tree.Settle(desc.Digest); err != nil || !bytes.Equal(stored(t, tree, desc.Digest), data) {
		t.Errorf("it was touched: %v", err)
	}
}

func TestALinkThatAPowerCutEmptiedIsMadeAgain(t *testing.T) {
	d := describe(nil).Digest
	for name, torn := range map[string]string{"empty": "", "of another digest": string(describe([]byte("x")).Digest), "whole": string(d)} {
		tree := open(t, storetest.Folder(t), Options{})
		if err := errors.Join(tree.put(Layer("a", d), []byte(torn)), tree.Link(Layer("a", d), d)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := tree.ReadLink(Layer("a", d)); got != d || err != nil {
			t.Errorf("%s: the link is %q, %v", name, got, err)
		}
	}
}
